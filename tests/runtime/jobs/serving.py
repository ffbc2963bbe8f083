"""A broker with a real worker process on a tiny real model, for tests."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.backends.wishes import BackendWish
from runtime.gallery import Gallery
from runtime.jobs.local import LocalBroker
from runtime.jobs.process import WorkerProcess
from runtime.jobs.protocol import Job, JobEvent
from runtime.jobs.supervisor import Supervisor
from runtime.plan.model import Model, open_model
from runtime.wire.options import DrawOptions, WorkerOptions

MODEL = "tiny"


@dataclass(frozen=True)
class Server:
    """All of a server but HTTP."""

    broker: LocalBroker
    supervisor: Supervisor
    gallery: Gallery
    model: Model

    async def submit(self, **fields: Any) -> str:
        """Queue a picture of few steps; returns the job's id."""
        request = self.model.read({"prompt": "a red apple", "steps": 3, "seed": 7, **fields})
        steps = self.model.plan(request).steps
        (job,) = await self.broker.submit(self.model.name, [request.to_json()], steps)
        return job.job_id

    async def finish(self, job_id: str) -> Job:
        """The job, once it has ended."""
        async for _ in self.broker.follow(job_id):
            pass
        return await self.broker.job(job_id)

    async def reach(self, job_id: str, step: int) -> None:
        """Wait until the job has finished a step."""
        async for event in self.broker.follow(job_id):
            if event.step is not None and event.step >= step:
                return
            assert not event.status.ended, event

    async def draw_told(self, **fields: Any) -> tuple[str, list[JobEvent]]:
        """A picture's job and all of its events: it is followed before its first step."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            job_id = await self.submit(**fields)
            following = self.broker.follow(job_id)
            first = await anext(following)
        finally:
            os.kill(self.pid, signal.SIGCONT)
        return job_id, [first, *[event async for event in following]]

    def picture(self, job: Job) -> bytes:
        """A completed job's picture."""
        assert job.image is not None, job
        path = self.gallery.picture_path(job.image.filename)
        assert path is not None
        return path.read_bytes()

    @property
    def pid(self) -> int:
        """The worker's process."""
        pid = self.supervisor.workers[0].pid
        assert pid is not None
        return pid


@asynccontextmanager
async def serving(
    engines: Path,
    data: Path,
    lease_seconds: float = 60,
    max_attempts: int = 3,
    name: str = MODEL,
    *,
    backend: BackendWish = "auto",
    first: WorkerProcess | None = None,
) -> AsyncIterator[Server]:
    """A server whose worker, or the one that was started ahead, is starting; a test that hangs
    fails.
    """
    broker = LocalBroker(
        data,
        name,
        queue_limit=100,
        lease_seconds=lease_seconds,
        max_attempts=max_attempts,
    )
    model = await asyncio.to_thread(open_model, engines, name)
    options = WorkerOptions(engines, name, data, lease_seconds, DrawOptions(backend))
    async with (
        asyncio.timeout(240),
        broker,
        Supervisor(broker, options, first) as supervisor,
    ):
        yield Server(broker, supervisor, Gallery(data), model)

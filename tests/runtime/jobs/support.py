"""Brokers on real files, and a worker that a test drives by hand."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from runtime.gallery import Gallery
from runtime.jobs.bounds import Retention
from runtime.jobs.local import LocalBroker
from runtime.jobs.protocol import Broker, GalleryEvent, Idempotency, Image, Job, JobEvent
from runtime.jobs.session import picture_of
from runtime.jobs.worker_side import WorkedBroker
from runtime.wire.messages import Shelved

MODEL = "paper"
STEPS = 3

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine; a test that hangs fails instead."""

    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await coroutine

    return asyncio.run(bounded())


def open_broker(
    data: Path,
    model: str = MODEL,
    queue_limit: int = 100,
    lease_seconds: float = 30,
    max_attempts: int = 3,
    *,
    disk_reserve_bytes: int = 0,
    retention: Retention = Retention(),  # noqa: B008  frozen
    others: Sequence[str] = (),
) -> LocalBroker:
    """A broker with a server's usual settings."""
    return LocalBroker(
        data,
        model,
        queue_limit=queue_limit,
        lease_seconds=lease_seconds,
        max_attempts=max_attempts,
        disk_reserve_bytes=disk_reserve_bytes,
        retention=retention,
        others=others,
    )


async def submit(
    broker: Broker,
    priority: str = "interactive",
    idempotency: Idempotency | None = None,
    model: str = MODEL,
    steps: int = STEPS,
) -> Job:
    """A job of a few steps."""
    request = {"prompt": "a red apple", "seed": 7, "priority": priority}
    (job,) = await broker.submit(model, [request], steps, idempotency)
    return job


class Hand:
    """Stands in for a WorkerSession: holds leases and remembers what it was told."""

    _numbers = itertools.count(1)

    def __init__(self, broker: WorkedBroker) -> None:
        self.name = f"hand-{next(self._numbers)}"
        self.assigned: list[str] = []
        self.canceled: list[str] = []
        self.woken = 0
        self.shelf = Shelved()
        self.settled = 1e9
        self._broker = broker
        broker.leases.attach(self)

    def assign(self, job: Job) -> None:
        self.assigned.append(job.job_id)

    def cancel(self, job_id: str) -> None:
        self.canceled.append(job_id)

    def wake(self) -> None:
        self.woken += 1

    async def lease(self, count: int = 1, *, begun: bool = True) -> list[str]:
        """Lease jobs, and begin to work on them; returns the ids of those that were assigned."""
        before = len(self.assigned)
        await self._broker.leases.lease(self, count)
        if begun:
            self.begin(*self.assigned[before:])
        return self.assigned[before:]

    def begin(self, *jobs: str) -> None:
        """Work on these jobs."""
        for job_id in jobs:
            self._broker.leases.at_risk(self, job_id, begun=True)

    def step(self, job_id: str, step: int, preview: bytes | None = None) -> None:
        self._broker.leases.step(self, job_id, step, 0.5, preview)

    async def complete(self, job_id: str) -> Image:
        """Report a picture whose files were never written."""
        picture = picture_of(
            self._broker.leases.job_of(self, job_id), f"{job_id}.png", (64, 32), 10
        )
        await self._broker.leases.complete(self, picture)
        return picture

    async def draw(self, job_id: str, gallery: Gallery) -> Image:
        """Write a picture's files and report it."""
        gallery.add_picture(f"{job_id}.png", b"picture")
        gallery.add_thumbnail(f"{job_id}.png", b"thumbnail")
        return await self.complete(job_id)

    async def die(self, *, counted: bool = True) -> None:
        """Release a lost worker's jobs, as the supervisor does."""
        self._broker.leases.detach(self)
        await self._broker.leases.release(self, "it was killed", counted=counted)


async def read(events: AsyncIterator[JobEvent], count: int) -> list[JobEvent]:
    """The next so many events."""
    return [await anext(events) for _ in range(count)]


async def read_all(events: AsyncIterator[JobEvent]) -> list[JobEvent]:
    """Every event to the end of the stream."""
    return [event async for event in events]


async def gallery_events(
    broker: Broker, last_event_id: str | None = None
) -> AsyncGenerator[GalleryEvent]:
    """The gallery's events one by one."""
    async for together in broker.follow_gallery(last_event_id):
        for event in together:
            yield event


def shown(event: JobEvent) -> tuple[str, int | None]:
    """An event in short: its status, and its queue position or step."""
    return event.status.value, event.queue_position if event.step is None else event.step

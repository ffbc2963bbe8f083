"""Session with one connected worker: gives the worker jobs and takes its reports.

The session ends when the socket closes, or when the worker was silent: a ready one for as long as a
lease lasts, another for as long as a stage of its loading may take. The caller then releases the
worker's leases.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runtime.jobs.disk import LOOK_SECONDS, NoRoom
from runtime.jobs.protocol import Image, Job, JobError
from runtime.jobs.records import age, now
from runtime.jobs.worker_side import StaleLease, WorkerSide
from runtime.wire.messages import (
    Assignment,
    Broken,
    Cancel,
    Canceled,
    Completed,
    Conditioned,
    Failed,
    Heartbeat,
    Leaving,
    LinkError,
    Loaded,
    Message,
    Order,
    Paced,
    Ready,
    Risk,
    Shelved,
    Stepped,
    Timed,
    Trial,
    Unsaved,
    Vacant,
)
from runtime.wire.server_link import ServerLink

ResultT = TypeVar("ResultT")

logger = logging.getLogger(__name__)

News = Ready | Loaded | Shelved | Broken | Heartbeat | Trial
"""Messages of a worker about itself that the session passes to the listener of `run`."""


class WorkerSession:
    """Serves one worker until the worker is gone; the caller then releases the worker's leases."""

    def __init__(
        self, leases: WorkerSide, link: ServerLink, lease_seconds: float, load_seconds: float
    ) -> None:
        """Seconds of silence after which a worker is considered lost: `lease_seconds` for a ready
        one, `load_seconds` for one that loads its model, which may hold up the heartbeat.
        """
        self.name = secrets.token_hex(8)
        self._leases = leases
        self._link = link
        self._lease_seconds = lease_seconds
        self._load_seconds = load_seconds
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self.shelf = Shelved()
        """The worker's models, as it named them last."""
        self._shelved_at = time.monotonic()
        self.leaving = False
        """True once the worker stops as it was asked to: its jobs were handed back, not lost."""
        self._ready = False
        self._draining = False
        self._gone = False
        self._ended = asyncio.Event()
        """Set whenever a job has ended, and when the worker is gone."""
        self._vacancies = 0
        """Free places of the worker; less than 0 while batch jobs have yielded theirs."""
        self._awake = asyncio.Event()

    def assign(self, job: Job) -> None:
        """The job has been leased to this worker."""
        self._orders.put_nowait(Assignment(job.job_id, job.request, age(job), job.model))

    def cancel(self, job_id: str) -> None:
        """The job is to stop."""
        self._orders.put_nowait(Cancel(job_id))

    @property
    def settled(self) -> float:
        """Seconds since the worker's models have changed."""
        return time.monotonic() - self._shelved_at

    def wake(self) -> None:
        """There may be jobs to lease."""
        self._awake.set()

    async def drain(self) -> None:
        """Lease no other job; returns when every leased job has ended or the worker is gone."""
        self._draining = True
        while self._leases.holds(self) and not self._gone:
            self._ended.clear()
            await self._ended.wait()

    async def run(self, listener: Callable[[News], None]) -> str:
        """Serve the worker until the worker is gone; returns the reason, for people.

        `listener` is called with each of the worker's messages that is `News`.
        """
        self._leases.attach(self)
        helpers = [asyncio.create_task(self._lease()), asyncio.create_task(self._send())]
        receiving = asyncio.create_task(self._receive(listener))
        try:
            # Each task ends when the worker is gone; a fault of ours in one ends the session too.
            await asyncio.wait([receiving, *helpers], return_when=asyncio.FIRST_COMPLETED)
            return _why([receiving, *helpers])
        finally:
            self._leases.detach(self)
            for task in (receiving, *helpers):
                task.cancel()
            await asyncio.gather(receiving, *helpers, return_exceptions=True)
            self._link.close()
            self._gone = True
            self._ended.set()

    async def _receive(self, listener: Callable[[News], None]) -> None:
        while True:
            silence = self._lease_seconds if self._ready else self._load_seconds
            try:
                async with asyncio.timeout(silence):
                    message = await self._link.receive()
            except TimeoutError:
                raise LinkError(f"it said nothing for {silence:g} s") from None
            if isinstance(message, News):
                if isinstance(message, Ready | Broken):
                    self._ready = isinstance(message, Ready)
                if isinstance(message, Shelved):
                    self._shelve(message)
                listener(message)
                continue
            try:
                await self._take(message)
            except StaleLease as error:
                logger.warning("refused %s: %s", type(message).__name__, error)

    def _shelve(self, shelf: Shelved) -> None:
        if {*shelf.loaded} != {*self.shelf.loaded}:
            self._shelved_at = time.monotonic()
        self.shelf = shelf
        self.wake()

    async def _take(self, message: Message) -> None:
        match message:
            case Vacant(count):
                self._vacancies += count
                self.wake()
            case Leaving():
                self.leaving = True
            case Conditioned(hits, misses, seconds):
                self._leases.conditioned(hits, misses, seconds)
            case Paced():
                self._leases.paced(message)
            case Timed(stages):
                self._leases.timed(stages)
            case Risk(job_id, over):
                self._leases.at_risk(self, job_id, begun=not over)
            case Stepped(job_id, step, seconds, preview):
                self._leases.step(self, job_id, step, seconds, preview or None)
                # Steps may arrive in one piece: listeners that keep up see each preview even so.
                await asyncio.sleep(0)
            case Completed() | Failed() | Canceled() | Unsaved():
                await _written(lambda: self._end(message))
                self._ended.set()
            case _:
                raise LinkError(f"{type(message).__name__} is nothing that a worker says")

    async def _end(self, message: Completed | Failed | Canceled | Unsaved) -> None:
        match message:
            case Completed():
                await self._complete(message)
            case Failed(job_id, title, detail):
                await self._leases.fail(self, job_id, JobError(title, detail))
            case Canceled(job_id):
                await self._leases.canceled(self, job_id)
            case Unsaved(job_id, reason):
                await self._leases.put_back(self, job_id, reason)

    async def _complete(self, done: Completed) -> None:
        job = self._leases.job_of(self, done.job_id)
        size = (done.width, done.height)
        picture = picture_of(job, done.filename, size, done.size_bytes)
        await self._leases.complete(self, picture, done.warnings)

    async def _lease(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            while not self.leaving and not self._draining:
                leased = await _written(lambda: self._leases.lease(self, self._vacancies))
                self._vacancies -= leased
                if not leased:
                    break

    async def _send(self) -> None:
        while True:
            await self._link.send(await self._orders.get())


def picture_of(job: Job, filename: str, size: tuple[int, int], size_bytes: int) -> Image:
    """The gallery's record of a job's picture; `size` is width and height."""
    return Image(
        filename=filename,
        width=size[0],
        height=size[1],
        seed=job.request["seed"],
        prompt=job.request["prompt"],
        model=job.model,
        created_at=now(),
        job_id=job.job_id,
        size_bytes=size_bytes,
    )


async def _written(write: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """The result of a write that is tried again for as long as the disk takes none."""
    while True:
        try:
            return await write()
        except NoRoom as error:
            logger.warning("%s; tried again in %g s", error, LOOK_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)


def _why(tasks: list[asyncio.Task[None]]) -> str:
    error = next(task.exception() for task in tasks if task.done())
    if not isinstance(error, LinkError):
        logger.error("the session with a worker failed", exc_info=error)
    return str(error) or repr(error)

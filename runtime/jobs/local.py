"""The broker of one machine: SQLite, owned by the process that holds this object."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from runtime.gallery import Gallery
from runtime.jobs.board import Board
from runtime.jobs.bounds import Retention
from runtime.jobs.clock import Clock
from runtime.jobs.data_folder import locked
from runtime.jobs.database import Database
from runtime.jobs.database_file import DATABASE, REMEDY, DamagedDatabase, DatabaseFault, is_empty
from runtime.jobs.disk import Disk, NoRoom
from runtime.jobs.facts import EngineFacts
from runtime.jobs.keys import job_of_key, keep_key
from runtime.jobs.leases import Leases
from runtime.jobs.names import cursor_after, new_job_id, read_cursor
from runtime.jobs.protocol import (
    Idempotency,
    Image,
    Job,
    JobEnded,
    JobStatus,
    Page,
    QueueFull,
    Stopping,
)
from runtime.jobs.records import (
    StoredJob,
    batch_rows,
    count_queued,
    delete_image_row,
    image_row,
    image_rows,
    insert_job,
    job_row,
    now,
    rows_of_batch,
    set_cancel_requested,
    set_ended,
    unlisted,
)
from runtime.jobs.retention import retain
from runtime.jobs.streams import BoardStreams

ResultT = TypeVar("ResultT")

RETAIN_SECONDS = 3600.0
"""Seconds between two looks for what is to be deleted."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Submitted:
    stored: Sequence[StoredJob]
    new: bool


class LocalBroker(BoardStreams):
    """A Broker over `DATA/calotype.sqlite3`. An async context manager: open it to use it."""

    leases: Leases

    def __init__(
        self,
        data: Path,
        model: str,
        *,
        queue_limit: int,
        lease_seconds: float,
        max_attempts: int,
        disk_reserve_bytes: int = 0,
        retention: Retention = Retention(),  # noqa: B008  frozen
        others: Sequence[str] = (),
    ) -> None:
        """`model` and `others`: names of the served models; queued jobs for another model fail.
        `disk_reserve_bytes`: no job is taken or drawn while less is free on the disk. `retention`:
        how long jobs and pictures stay.
        """
        super().__init__(Board())
        self.lease_seconds = lease_seconds
        self._data = data
        self._models = (model, *others)
        self._queue_limit = queue_limit
        self._max_attempts = max_attempts
        self._disk = Disk(data, disk_reserve_bytes)
        self._retention = retention
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the data folder. Raises CalotypeError when another server uses that folder."""
        async with AsyncExitStack() as stack:
            self._data.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(self._data))
            self._gallery = Gallery(self._data)
            self._database = self._open_database()
            stack.push_async_callback(self._database.close)
            self.leases = Leases(
                self._database, self._board, self._gallery, self._disk, self._max_attempts
            )
            await self._with_ballast(lambda: self.leases.recover(self._models))
            await self._database.read(self._tidy)
            looking = asyncio.create_task(self._disk.watch(self._board.wake))
            stack.callback(looking.cancel)
            tidying = asyncio.create_task(self._retain())
            stack.callback(tidying.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End the streams and close the file."""
        self.stop()
        await self._stack.aclose()

    async def submit(
        self,
        model: str,
        requests: Sequence[Mapping[str, Any]],
        total_steps: int,
        idempotency: Idempotency | None = None,
    ) -> Sequence[Job]:
        """Store a job for each request durably, all or none, and answer with them.

        Raises QueueFull, NoRoom, Stopping, IdempotencyConflict.
        """
        if self._stopping:
            raise Stopping("the server is being stopped; send the request again once it is back")
        if self._disk.fault:
            raise NoRoom(self._disk.fault)
        batch_id = new_job_id() if len(requests) > 1 else None
        jobs = [_new_job(model, request, total_steps, batch_id) for request in requests]

        def work(connection: sqlite3.Connection) -> _Submitted:
            known = idempotency and job_of_key(connection, idempotency)
            if known:
                return _Submitted(batch_rows(connection, known), new=False)
            self._refuse_when_full(connection, len(jobs))
            for job in jobs:
                insert_job(connection, job)
            if idempotency:
                keep_key(connection, idempotency, jobs[0])
            return _Submitted([job_row(connection, job.job_id) for job in jobs], new=True)

        def apply(submitted: _Submitted) -> None:
            if submitted.new:
                for stored in submitted.stored:
                    self._board.submitted(stored)

        submitted = await self._database.write(work, apply)
        return self._as_now(submitted.stored)

    async def replay(self, idempotency: Idempotency) -> Sequence[Job]:
        """The jobs that a key stands for, as they are now. Raises IdempotencyConflict."""

        def work(connection: sqlite3.Connection) -> Sequence[StoredJob]:
            known = job_of_key(connection, idempotency)
            return batch_rows(connection, known) if known else []

        return self._as_now(await self._database.read(work))

    def _as_now(self, jobs: Sequence[StoredJob]) -> Sequence[Job]:
        """The jobs as the board has them: a row tells neither a place in the queue nor a step."""
        return [self._board.job(stored.job.job_id) or stored.job for stored in jobs]

    async def job(self, job_id: str) -> Job:
        """The job as it is now. Raises JobNotFound."""
        live = self._board.job(job_id)
        if live is not None:
            return live
        stored = await self._database.read(lambda connection: job_row(connection, job_id))
        # Between a commit and its arrival here a row may be ahead of the board.
        return self._board.job(job_id) or stored.job

    async def batch(self, batch_id: str) -> Sequence[Job]:
        """The jobs of a batch as they are now, in their order. Raises JobNotFound."""
        return self._as_now(
            await self._database.read(lambda connection: rows_of_batch(connection, batch_id))
        )

    async def cancel(self, job_id: str) -> Job:
        """Ask a job to stop. Raises JobNotFound, JobEnded."""

        def work(connection: sqlite3.Connection) -> list[StoredJob]:
            job = job_row(connection, job_id).job
            match job.status:
                case JobStatus.QUEUED:
                    set_ended(connection, job_id, JobStatus.CANCELED, job.step)
                case JobStatus.PROCESSING:
                    set_cancel_requested(connection, job_id)
                case JobStatus.CANCELED:
                    return []
                case JobStatus.COMPLETED | JobStatus.FAILED:
                    raise JobEnded(f"job {job_id} has {job.status}: there is nothing to cancel")
            return [job_row(connection, job_id)]

        await self._database.write(work, self._board.fold)
        return await self.job(job_id)

    async def images(self, limit: int, cursor: str | None) -> Page:
        """A page of the gallery. Raises ValueError for a text that is no cursor of a page."""
        before = None if cursor is None else read_cursor(cursor)
        rows = await self._database.read(
            lambda connection: image_rows(connection, limit + 1, before)
        )
        more = len(rows) > limit
        page = rows[:limit]
        return Page([image for _, image in page], cursor_after(page[-1][0]) if more else None)

    async def image(self, filename: str) -> Image:
        """The picture of this file name. Raises ImageNotFound."""
        return await self._database.read(lambda connection: image_row(connection, filename))

    async def delete_image(self, filename: str) -> None:
        """Delete a picture's row, file and thumbnail. Raises ImageNotFound, NoRoom.

        The row goes last: a deletion that was cut short can be repeated, and leaves no file behind
        of which nothing is known any more.
        """
        await self._database.read(lambda connection: image_row(connection, filename))
        try:
            await asyncio.to_thread(self._gallery.remove, filename)
        except OSError as error:
            raise NoRoom(
                f"the files of {filename} cannot be deleted ({error.strerror}): mend the folders "
                "images and thumbs, then delete it again"
            ) from error
        await self._with_ballast(
            lambda: self._database.write(
                lambda connection: delete_image_row(connection, filename),
                lambda _: self._board.picture_deleted(filename),
            )
        )

    @property
    def engine_elsewhere(self) -> EngineFacts | None:
        """None: there are no other servers."""
        return None

    def fault(self) -> str:
        """The reason why no job is taken or drawn now, with the remedy; empty for none."""
        return self._disk.fault

    async def _newest_picture(self) -> str | None:
        rows = await self._database.read(lambda connection: image_rows(connection, 1, None))
        return rows[0][1].filename if rows else None

    async def _retain(self) -> None:
        """Delete what is beyond the bounds of retention, all the time. Ends by being canceled."""
        clock = Clock()
        while True:
            try:
                if moved := clock.moved():
                    logger.warning("%s", moved)
                else:
                    await self.retain()
            except (NoRoom, DatabaseFault, OSError) as error:
                logger.warning("old jobs and pictures stay for now: %s", error)
            await asyncio.sleep(RETAIN_SECONDS)

    async def retain(self) -> None:
        """Delete what is beyond the bounds of retention now."""
        await retain(self._database, self._retention, self.delete_image)

    def _open_database(self) -> Database:
        path = self._data / DATABASE
        if is_empty(path) and any(self._gallery.names()):
            raise DamagedDatabase(f"{path}: empty, though there are pictures; {REMEDY}")
        try:
            return Database(path)
        except NoRoom:
            if not self._disk.give_up_ballast():
                raise
            return Database(path)

    async def _with_ballast(self, write: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Write what makes room, or a start cannot do without, though the disk be full."""
        try:
            return await write()
        except NoRoom:
            if not self._disk.give_up_ballast():
                raise
            return await write()

    def _refuse_when_full(self, connection: sqlite3.Connection, count: int) -> None:
        queued = count_queued(connection)
        if queued + count > self._queue_limit:
            these = f" and these are {count}" if count > 1 else ""
            raise QueueFull(
                f"{queued} jobs wait, the queue takes {self._queue_limit}{these}; try later"
            )

    def _tidy(self, connection: sqlite3.Connection) -> None:
        """Remove files that the server before this one left half done.

        A picture of an unknown job stays, since it may be the database that was lost.
        """
        self._gallery.remove_unfinished()
        for filename in unlisted(connection, self._gallery.names()):
            self._gallery.remove(filename)


def _new_job(model: str, request: Mapping[str, Any], total_steps: int, batch_id: str | None) -> Job:
    return Job(
        job_id=new_job_id(),
        model=model,
        status=JobStatus.QUEUED,
        step=0,
        total_steps=total_steps,
        queue_position=None,
        attempt=0,
        priority=request["priority"],
        created_at=now(),
        started_at=None,
        finished_at=None,
        request=request,
        image=None,
        error=None,
        cancel_requested=False,
        batch_id=batch_id,
    )

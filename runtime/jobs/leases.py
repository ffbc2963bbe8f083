"""The workers' side of the local broker: leases of jobs, and the reports about them.

A lease belongs to a worker's connection and lasts as long as the server hears of that connection.
An attempt is counted when its worker was lost while it worked on the job; after the last attempt
the job fails with the reason. A job that was lost before is leased alone, so that a job which kills
its worker takes other jobs with it only once, and it fails alone: the loss of a worker that worked
on several jobs is the last attempt of none.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Sequence, Set

from runtime.gallery import Gallery
from runtime.jobs.board import Board
from runtime.jobs.board_side import BoardSide
from runtime.jobs.database import Database
from runtime.jobs.disk import Disk
from runtime.jobs.endings import ATTEMPTS_USED_UP, other_model
from runtime.jobs.protocol import Image, JobError, JobStatus
from runtime.jobs.records import (
    StoredJob,
    held_jobs,
    insert_image,
    job_row,
    leased_job,
    next_jobs,
    set_ended,
    set_leased,
    set_queued,
    set_warnings,
    unfinished_jobs,
)
from runtime.jobs.worker_side import Holder

logger = logging.getLogger(__name__)


class Leases(BoardSide):
    """Gives jobs to workers and takes their reports."""

    def __init__(
        self,
        database: Database,
        board: Board,
        gallery: Gallery,
        disk: Disk,
        max_attempts: int,
    ) -> None:
        """`max_attempts`: number of lost attempts after which a job fails."""
        super().__init__(board)
        self._disk = disk
        self._database = database
        self._gallery = gallery
        self._max_attempts = max_attempts

    async def lease(self, worker: Holder, count: int) -> int:
        """Lease up to `count` jobs and hand each to `worker.assign`; returns their number.

        Batch jobs may fill all places, and yield them: an interactive job is leased beyond `count`
        where a batch job has a place. `count` is then less than 0 until so many jobs have ended.
        Of several models, `affinity.py` says whose jobs the worker may have.
        None is leased while the disk has no room for its picture.
        """
        if self._disk.fault:
            return 0
        share = self._share_of(worker, count)
        if share.most <= 0:
            return 0
        models = self._models(worker)

        def work(connection: sqlite3.Connection) -> list[StoredJob]:
            chosen = share.of(next_jobs(connection, share.most, share.batch, models))
            for stored in chosen:
                set_leased(connection, stored.job.job_id, worker.name)
            return [job_row(connection, stored.job.job_id) for stored in chosen]

        leased = await self._database.write(work, self._board.fold)
        self._leased(worker, len(leased))
        return len(leased)

    async def complete(self, worker: Holder, picture: Image, warnings: Sequence[str] = ()) -> None:
        """List a picture whose files are on disk, and end its job. Raises StaleLease.

        A job that was canceled meanwhile ends as canceled, and its files are removed.
        """

        def work(connection: sqlite3.Connection) -> list[StoredJob]:
            job = leased_job(connection, worker.name, picture.job_id)
            if job.cancel_requested:
                set_ended(connection, job.job_id, JobStatus.CANCELED, job.total_steps)
            else:
                insert_image(connection, picture)
                set_warnings(connection, job.job_id, warnings)
                set_ended(connection, job.job_id, JobStatus.COMPLETED, job.total_steps)
            return [job_row(connection, job.job_id)]

        (stored,) = await self._database.write(work, self._board.fold)
        if stored.job.image is None:
            try:
                await asyncio.to_thread(self._gallery.remove, picture.filename)
            except OSError as error:
                # No fault of the worker's; the next start of the server removes them.
                logger.warning("files of the canceled %s stay for now: %s", picture.job_id, error)

    async def put_back(self, worker: Holder, job_id: str, reason: str) -> None:
        """Queue a job again whose picture could not be saved; the attempt is not counted, and none
        is leased until there is room. Raises StaleLease.
        """
        self._disk.unsaved(reason)

        def work(connection: sqlite3.Connection) -> list[StoredJob]:
            job = leased_job(connection, worker.name, job_id)
            if job.cancel_requested:
                set_ended(connection, job_id, JobStatus.CANCELED, job.total_steps)
            else:
                set_queued(connection, job_id, counted=False)
            return [job_row(connection, job_id)]

        await self._database.write(work, self._board.fold)

    async def fail(self, worker: Holder, job_id: str, error: JobError) -> None:
        """End a job as failed: another attempt would fail as well. Raises StaleLease."""
        await self._end(worker, job_id, JobStatus.FAILED, error)

    async def canceled(self, worker: Holder, job_id: str) -> None:
        """End a job that the worker has stopped as it was asked to. Raises StaleLease."""
        await self._end(worker, job_id, JobStatus.CANCELED, None)

    async def release(self, worker: Holder, reason: str, *, counted: bool) -> None:
        """End all leases of a worker that is gone; `reason` says why, for people.

        Attempts of a worker that left as it was asked to are not `counted`, and of another those
        of the jobs that it worked on.
        """
        at_risk = self._board.risked(worker.name) if counted else set()

        def work(connection: sqlite3.Connection) -> list[StoredJob]:
            held = held_jobs(connection, worker.name)
            return self._give_up(connection, held, reason, at_risk)

        def apply(changed: Sequence[StoredJob]) -> None:
            self._board.lost(len(at_risk))
            self._board.fold(changed)

        await self._database.write(work, apply)

    async def recover(self, models: Sequence[str]) -> None:
        """Take over the unfinished jobs of the server process before this process.

        Attempts that the earlier server had begun are counted as lost. Jobs for other than these
        models fail, since no worker of this server can make them.
        """

        def work(connection: sqlite3.Connection) -> list[StoredJob]:
            unfinished = unfinished_jobs(connection)
            foreign = [stored.job for stored in unfinished if stored.job.model not in models]
            for job in foreign:
                set_ended(connection, job.job_id, JobStatus.FAILED, 0, other_model(job, models))
            processing = [
                stored
                for stored in unfinished
                if stored.job.model in models and stored.job.status is JobStatus.PROCESSING
            ]
            at_risk = {stored.job.job_id for stored in processing}
            self._give_up(connection, processing, "the server was stopped", at_risk)
            return [job_row(connection, stored.job.job_id) for stored in unfinished]

        await self._database.write(work, self._board.fold)

    def _give_up(
        self,
        connection: sqlite3.Connection,
        lost: Sequence[StoredJob],
        reason: str,
        at_risk: Set[str],
    ) -> list[StoredJob]:
        """End these attempts, counting those of the jobs `at_risk`; returns the jobs as they are
        afterwards.
        """
        for stored in lost:
            job = stored.job
            counted = job.job_id in at_risk
            if job.cancel_requested:
                set_ended(connection, job.job_id, JobStatus.CANCELED, job.step)
            elif at_risk == {job.job_id} and job.attempt >= self._max_attempts:
                most = max(job.attempt, self._max_attempts)
                detail = f"attempt {job.attempt} of {most} was the last: {reason}"
                error = JobError(ATTEMPTS_USED_UP, detail)
                set_ended(connection, job.job_id, JobStatus.FAILED, job.step, error)
            else:
                set_queued(connection, job.job_id, counted=counted)
        return [job_row(connection, stored.job.job_id) for stored in lost]

    async def _end(
        self, worker: Holder, job_id: str, status: JobStatus, error: JobError | None
    ) -> None:
        live = self._board.job(job_id)
        step = live.step if live else 0

        def work(connection: sqlite3.Connection) -> list[StoredJob]:
            job = leased_job(connection, worker.name, job_id)
            if job.cancel_requested:
                set_ended(connection, job_id, JobStatus.CANCELED, step)
            else:
                set_ended(connection, job_id, status, step, error)
            return [job_row(connection, job_id)]

        await self._database.write(work, self._board.fold)

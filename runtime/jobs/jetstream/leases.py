"""The workers' side of a cluster's broker: leases of jobs, and the reports about them.

A lease is a job's newest message, which names the holder and the server that the holder is
connected to: this server gives it up for a worker that is gone, and another one does where the
server itself is gone (`members.py`).
"""

import asyncio
import logging
from collections.abc import Sequence, Set

from runtime.gallery import Gallery
from runtime.jobs.board import Board
from runtime.jobs.board_side import BoardSide
from runtime.jobs.facts import EngineFacts
from runtime.jobs.jetstream.jobs import Jobs
from runtime.jobs.jetstream.members import Members
from runtime.jobs.jetstream.steps import Steps
from runtime.jobs.jetstream.transitions import (
    NotQueued,
    ended_by,
    given_up,
    leased_to,
    put_back_by,
)
from runtime.jobs.protocol import Image, JobError, JobStatus
from runtime.jobs.records import StoredJob
from runtime.jobs.worker_side import Holder

logger = logging.getLogger(__name__)


class JetStreamLeases(BoardSide):
    """Gives jobs to workers and takes their reports."""

    def __init__(
        self,
        jobs: Jobs,
        board: Board,
        steps: Steps,
        members: Members,
        gallery: Gallery,
        *,
        max_attempts: int,
    ) -> None:
        """`max_attempts`: number of lost attempts after which a job fails."""
        super().__init__(board)
        self._jobs = jobs
        self._steps = steps
        self._members = members
        self._gallery = gallery
        self._max_attempts = max_attempts
        self._choosing = asyncio.Lock()

    def draws_with(self, engine: EngineFacts) -> None:
        """A worker of this server draws with this engine now; other servers learn it."""
        self._members.draws_with(engine)

    async def lease(self, worker: Holder, count: int) -> int:
        """Lease up to `count` jobs and hand each to `worker.assign`; returns their number.

        Workers of one server choose one after the other, so that they do not choose the same; where
        another server was faster, the next job is tried.
        """
        leased = 0
        async with self._choosing:
            while True:
                share = self._share_of(worker, count - leased)
                chosen = share.of(self._board.waiting(share.most, share.batch, self._members.model))
                taken = [await self._take(worker, stored) for stored in chosen]
                self._leased(worker, sum(taken))
                leased += sum(taken)
                if all(taken):
                    return leased

    async def _take(self, worker: Holder, stored: StoredJob) -> bool:
        """Lease one job; False where another server has leased it."""
        try:
            await self._jobs.change(stored.job.job_id, leased_to(worker.name))
        except NotQueued:
            return False
        return True

    def step(
        self, worker: Holder, job_id: str, step: int, seconds: float, preview: bytes | None
    ) -> None:
        """A job has finished a step; `preview` is a JPEG. Raises StaleLease."""
        super().step(worker, job_id, step, seconds, preview)
        self._steps.tell(worker.name, job_id, step, seconds, preview)

    async def complete(self, worker: Holder, picture: Image, warnings: Sequence[str] = ()) -> None:
        """List a picture whose files are there, and end its job. Raises StaleLease.

        A job that was canceled meanwhile ends as canceled, and its files are removed.
        """
        done = ended_by(
            worker.name,
            JobStatus.COMPLETED,
            self.job_of(worker, picture.job_id).total_steps,
            image=picture,
            warnings=tuple(warnings),
        )
        stored = await self._jobs.change(picture.job_id, done)
        if stored is not None and stored.job.image is None:
            try:
                await asyncio.to_thread(self._gallery.remove, picture.filename)
            except OSError as error:
                logger.warning("files of the canceled %s stay: %s", picture.job_id, error)

    async def put_back(self, worker: Holder, job_id: str, reason: str) -> None:
        """Queue a job again whose picture could not be saved; the attempt is not counted. Raises
        StaleLease.
        """
        logger.warning("job %s is queued again: %s", job_id, reason)
        await self._jobs.change(job_id, put_back_by(worker.name, self._step(worker, job_id)))

    async def fail(self, worker: Holder, job_id: str, error: JobError) -> None:
        """End a job as failed: another attempt would fail as well. Raises StaleLease."""
        failed = ended_by(worker.name, JobStatus.FAILED, self._step(worker, job_id), error=error)
        await self._jobs.change(job_id, failed)

    async def canceled(self, worker: Holder, job_id: str) -> None:
        """End a job that the worker has stopped as it was asked to. Raises StaleLease."""
        await self._jobs.change(
            job_id, ended_by(worker.name, JobStatus.CANCELED, self._step(worker, job_id))
        )

    async def release(self, worker: Holder, reason: str, *, counted: bool) -> None:
        """End all leases of a worker that is gone; `reason` says why, for people."""
        at_risk = self._board.risked(worker.name) if counted else set()
        await self.give_up(self._board.stored(worker.name), reason, at_risk)
        self._board.lost(len(at_risk))

    async def give_up(self, held: Sequence[StoredJob], reason: str, at_risk: Set[str]) -> None:
        """End these leases, and count the attempts of the jobs `at_risk`."""
        for stored in held:
            if stored.holder:
                gone = given_up(stored.holder, reason, at_risk, self._max_attempts)
                await self._jobs.change(stored.job.job_id, gone)

    def _step(self, worker: Holder, job_id: str) -> int:
        """The step that a job is at which this worker has the lease of. Raises StaleLease."""
        live = self._board.job(self.job_of(worker, job_id).job_id)
        return live.step if live else 0

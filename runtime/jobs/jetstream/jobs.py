"""The jobs of a cluster: read, and changed where nobody else has changed them meanwhile."""

import secrets

from runtime.jobs.jetstream.journal import Journal, Outrun
from runtime.jobs.jetstream.memory import JOBS, STANDINGS, Known, Memory, stored_job
from runtime.jobs.jetstream.records import STANDING, Standing
from runtime.jobs.jetstream.transitions import Transition
from runtime.jobs.protocol import Job, JobNotFound
from runtime.jobs.records import StoredJob


class Jobs:
    """Every job of the stream."""

    def __init__(self, journal: Journal, memory: Memory, server: str) -> None:
        """`server` is the name of this one, which leases are written with."""
        self._journal = journal
        self._memory = memory
        self._server = server

    async def job(self, job_id: str) -> Job:
        """A job as it is now. Raises JobNotFound, ClusterFault."""
        live = self._memory.board.job(job_id)
        return live or (await self._stored(self._known(job_id))).job

    async def change(self, job_id: str, transition: Transition) -> StoredJob | None:
        """Change a job, once this server has heard of the change; returns the job as it is then,
        None where there was nothing to change.

        The transition is asked again where somebody else has changed the job meanwhile. Raises what
        the transition raises, JobNotFound, ClusterFault.
        """
        known = self._known(job_id)
        token = secrets.token_hex(8)
        while True:
            standing = known.standing
            changed = transition(await self._stored(known))
            if changed is None:
                return None
            server = self._server if changed.holder else None
            content = Standing.of(changed.job, changed.holder, server, token)
            try:
                number = await self._journal.write(
                    STANDINGS + job_id, STANDING.dump_json(content), standing
                )
            except Outrun:
                await self._heard_of_another(job_id, standing)
                if known.written == token:  # It was this one, and its answer was lost.
                    return changed
                continue
            await self._journal.caught_up(number)
            return changed

    async def _heard_of_another(self, job_id: str, standing: int) -> None:
        newest = await self._journal.read(STANDINGS + job_id)
        if newest and newest.sequence > standing:
            await self._journal.caught_up(newest.sequence)

    async def _stored(self, known: Known) -> StoredJob:
        if known.stored is not None:
            return known.stored
        submission = await self._journal.read(JOBS + known.submission)
        if submission is None:
            raise JobNotFound("the job has been deleted")
        job_id = stored_job(known, submission.content, None).job.job_id
        standing = await self._journal.read(STANDINGS + job_id)
        if standing:
            await self._journal.caught_up(standing.sequence)
        return stored_job(known, submission.content, standing.content if standing else None)

    def _known(self, job_id: str) -> Known:
        known = self._memory.known(job_id)
        if known is None:
            raise JobNotFound(f"there is no job {job_id!r}")
        return known

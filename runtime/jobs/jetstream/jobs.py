"""The jobs of a cluster: read, and changed where nobody else has changed them meanwhile."""

import secrets

from runtime.jobs.jetstream.journal import Journal
from runtime.jobs.jetstream.memory import STANDINGS, Known, Memory, stored_job
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
        with self._memory.awaited(token) as counted:
            while True:
                base = known.standing
                changed = transition(await self._stored(known))
                if changed is None:
                    return None
                server = self._server if changed.holder else None
                standing = Standing.of(
                    changed.job, base, holder=changed.holder, server=server, token=token
                )
                subject, content = STANDINGS + job_id, STANDING.dump_json(standing)
                await self._journal.caught_up(await self._journal.write(subject, content))
                if counted():
                    return changed

    async def _stored(self, known: Known) -> StoredJob:
        """The job as this server has heard of it; one that has ended is read from the stream."""
        if known.stored is not None:
            return known.stored
        submission = await self._journal.content(known.submission)
        standing = await self._journal.content(known.standing)
        return stored_job(known, submission, standing)

    def _known(self, job_id: str) -> Known:
        known = self._memory.known(job_id)
        if known is None:
            raise JobNotFound(f"there is no job {job_id!r}")
        return known

"""The broker of a cluster: any number of servers open it on one stream, and see the same."""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runtime.gallery import Gallery
from runtime.jobs.disk import NoRoom
from runtime.jobs.endings import other_model
from runtime.jobs.facts import EngineFacts
from runtime.jobs.jetstream.jobs import Jobs
from runtime.jobs.jetstream.journal import ClusterFault, Journal
from runtime.jobs.jetstream.leases import JetStreamLeases
from runtime.jobs.jetstream.members import Members
from runtime.jobs.jetstream.memory import JOBS, KEYS, Memory
from runtime.jobs.jetstream.records import KEY, SUBMISSION, Asked, KeyRecord, Submission
from runtime.jobs.jetstream.steps import Steps
from runtime.jobs.jetstream.transitions import canceled, failed, without_picture
from runtime.jobs.names import new_job_id
from runtime.jobs.protocol import (
    Idempotency,
    IdempotencyConflict,
    Image,
    Job,
    JobNotFound,
    Page,
    QueueFull,
    Stopping,
)
from runtime.jobs.records import now
from runtime.jobs.streams import BoardStreams

LOOK_PART = 0.25
"""The part of a lease's time after which servers that are gone are looked for again."""

logger = logging.getLogger(__name__)


class JetStreamBroker(BoardStreams):
    """A Broker over a stream of a NATS cluster. An async context manager: open it to use it.

    Pictures are files of a folder that all servers and workers share.
    """

    leases: JetStreamLeases

    def __init__(
        self,
        servers: str,
        data: Path,
        model: str,
        *,
        queue_limit: int,
        lease_seconds: float,
        max_attempts: int,
        name: str = "calotype",
        replicas: int = 1,
    ) -> None:
        """`servers`: addresses of the cluster's, separated by commas. `data`: the shared folder of
        pictures. `name`: the stream's. The rest as for the broker of one machine.
        """
        self._memory = Memory()
        super().__init__(self._memory.board)
        self.lease_seconds = lease_seconds
        self._servers = servers
        self._data = data
        self._model = model
        self._queue_limit = queue_limit
        self._max_attempts = max_attempts
        self._name = name
        self._replicas = replicas
        self._server = secrets.token_hex(8)
        self._coming = 0
        """The jobs that are being submitted here, and are not in the queue yet."""
        self._keys: dict[str, asyncio.Lock] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Read the stream. Raises ClusterFault."""
        async with AsyncExitStack() as stack:
            opened = Journal.opened(self._servers, self._name, self._memory.take, self._replicas)
            self._journal = await stack.enter_async_context(opened)
            self._memory.begin()
            self._gallery = Gallery(self._data)
            self._jobs = Jobs(self._journal, self._memory, self._server)
            steps = Steps(self._journal, self._board, self._server)
            self._members = Members(self._journal, self._server, self._model, self.lease_seconds)
            self.leases = JetStreamLeases(
                self._jobs,
                self._board,
                steps,
                self._members,
                self._gallery,
                max_attempts=self._max_attempts,
            )
            for task in (await steps.open(), await self._members.open()):
                stack.callback(task.cancel)
            await self._end_unserved()
            watching = asyncio.create_task(self._watch())
            stack.callback(watching.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End the streams, give up leases that are left, and leave the cluster."""
        self.stop()
        try:
            await self._give_up(self._server, "the server was stopped")
        except ClusterFault as error:
            logger.warning("leases of this server are given up by others: %s", error)
        await self._stack.aclose()

    async def submit(
        self,
        model: str,
        requests: Sequence[Mapping[str, Any]],
        total_steps: int,
        idempotency: Idempotency | None = None,
    ) -> Sequence[Job]:
        """Store a job for each request durably, all or none, and answer with them.

        Each server keeps to the queue's limit by what it has heard: several at once may pass it by
        what they submit at this moment. Raises QueueFull, Stopping, IdempotencyConflict,
        ClusterFault.
        """
        if self._stopping:
            raise Stopping("the server is being stopped; send the request again once it is back")
        if idempotency is None:
            return await self._submit(secrets.token_hex(16), model, requests, total_steps)
        async with self._keys.setdefault(idempotency.key, asyncio.Lock()):
            return await self._submit_once(model, requests, total_steps, idempotency)

    async def replay(self, idempotency: Idempotency) -> Sequence[Job]:
        """The jobs that a key stands for, as they are now. Raises IdempotencyConflict."""
        subject = _subject(idempotency)
        await self._journal.caught_up(await self._journal.newest(subject))
        known = self._key(idempotency)
        return await self._jobs_of(known.job_ids) if known and self._there(known) else []

    async def job(self, job_id: str) -> Job:
        """The job as it is now. Raises JobNotFound, ClusterFault."""
        return await self._jobs.job(job_id)

    async def batch(self, batch_id: str) -> Sequence[Job]:
        """The jobs of a batch as they are now, in their order. Raises JobNotFound."""
        ids = self._memory.batch(batch_id)
        if not ids:
            raise JobNotFound(f"there is no batch {batch_id!r}")
        return await self._jobs_of(ids)

    async def cancel(self, job_id: str) -> Job:
        """Ask a job to stop. Raises JobNotFound, JobEnded, ClusterFault."""
        await self._jobs.change(job_id, canceled)
        return await self.job(job_id)

    async def images(self, limit: int, cursor: str | None) -> Page:
        """A page of the gallery. Raises ValueError for a text that is no cursor of a page."""
        return self._memory.page(limit, cursor)

    async def image(self, filename: str) -> Image:
        """The picture of this file name. Raises ImageNotFound."""
        return self._memory.image(filename)

    async def delete_image(self, filename: str) -> None:
        """Delete a picture's files, then its entry. Raises ImageNotFound, NoRoom, ClusterFault."""
        image = self._memory.image(filename)
        try:
            await asyncio.to_thread(self._gallery.remove, filename)
        except OSError as error:
            raise NoRoom(
                f"the files of {filename} cannot be deleted ({error.strerror}): mend the folders "
                "images and thumbs, then delete it again"
            ) from error
        await self._jobs.change(image.job_id, without_picture)

    @property
    def engine_elsewhere(self) -> EngineFacts | None:
        """The engine of another server's workers for the same model; None where none is known."""
        return self._members.engine

    def fault(self) -> str:
        """The reason why no job is taken or drawn now, with the remedy; empty for none."""
        return self._journal.fault

    async def _newest_picture(self) -> str | None:
        return self._memory.newest_picture

    async def _submit(
        self,
        name: str,
        model: str,
        requests: Sequence[Mapping[str, Any]],
        total_steps: int,
        job_ids: Sequence[str] = (),
    ) -> Sequence[Job]:
        count = len(requests)
        self._refuse_when_full(count)
        ids = job_ids or [new_job_id() for _ in requests]
        submission = Submission(
            model=model,
            jobs=tuple(Asked(*each) for each in zip(ids, requests, strict=True)),
            total_steps=total_steps,
            created_at=now(),
            batch_id=new_job_id() if count > 1 else None,
        )
        self._memory.expect(name)
        self._coming += count
        try:
            number = await self._journal.write(JOBS + name, SUBMISSION.dump_json(submission))
        finally:
            self._coming -= count
        await self._journal.caught_up(number)
        return await self._jobs_of(ids)

    async def _submit_once(
        self,
        model: str,
        requests: Sequence[Mapping[str, Any]],
        total_steps: int,
        idempotency: Idempotency,
    ) -> Sequence[Job]:
        """Let a key stand for these jobs, then submit them.

        A server that is lost between the two leaves a key of jobs that nobody has submitted: they
        are submitted when the key comes again.
        """
        subject = _subject(idempotency)
        await self._journal.caught_up(await self._journal.newest(subject))
        known = self._key(idempotency)
        if known is None:
            self._refuse_when_full(len(requests))
            record = KeyRecord(
                fingerprint=idempotency.fingerprint,
                submission=secrets.token_hex(16),
                job_ids=tuple(new_job_id() for _ in requests),
                created_at=now(),
            )
            await self._journal.caught_up(await self._journal.write(subject, KEY.dump_json(record)))
            known = self._key(idempotency) or record
        if self._there(known):
            return await self._jobs_of(known.job_ids)
        return await self._submit(known.submission, model, requests, total_steps, known.job_ids)

    def _key(self, idempotency: Idempotency) -> KeyRecord | None:
        """The jobs of a key; None for a new one. Raises IdempotencyConflict."""
        known = self._memory.key(_subject(idempotency).removeprefix(KEYS))
        if known and known.fingerprint != idempotency.fingerprint:
            raise IdempotencyConflict(
                "this idempotency key was used with another body; take a new key for a new request"
            )
        return known

    def _there(self, known: KeyRecord) -> bool:
        """True once the jobs of a key have been submitted."""
        return self._memory.known(known.job_ids[0]) is not None

    async def _jobs_of(self, job_ids: Sequence[str]) -> Sequence[Job]:
        return [await self._jobs.job(job_id) for job_id in job_ids]

    def _refuse_when_full(self, count: int) -> None:
        waiting = self._board.queued + self._coming
        if waiting + count > self._queue_limit:
            these = f" and these are {count}" if count > 1 else ""
            raise QueueFull(
                f"{waiting} jobs wait, the queue takes {self._queue_limit}{these}; try later"
            )

    async def _end_unserved(self) -> None:
        """Fail the jobs that wait for a model which no server serves any more."""
        for stored in self._board.unfinished:
            if stored.job.model not in self._members.models:
                error = other_model(stored.job, [self._model])
                await self._jobs.change(stored.job.job_id, failed(error))

    async def _watch(self) -> None:
        """Give up the leases of servers that are gone, all the time. Ends by being canceled."""
        while True:
            await asyncio.sleep(self.lease_seconds * LOOK_PART)
            servers = {server for server, _ in self._memory.held_by_servers()}
            try:
                for server in filter(self._members.gone, servers):
                    await self._give_up(server, "its server was lost")
            except ClusterFault as error:
                logger.warning("leases of a server that is gone stay for now: %s", error)

    async def _give_up(self, server: str, reason: str) -> None:
        """End the leases of a server's workers, each worker's together."""
        held = [stored for each, stored in self._memory.held_by_servers() if each == server]
        for holder in {stored.holder for stored in held}:
            jobs = [stored for stored in held if stored.holder == holder]
            at_risk = {stored.job.job_id for stored in jobs}
            await self.leases.give_up(jobs, reason, at_risk)


def _subject(idempotency: Idempotency) -> str:
    """The subject of a key, which may be any text."""
    return KEYS + hashlib.sha256(idempotency.key.encode()).hexdigest()

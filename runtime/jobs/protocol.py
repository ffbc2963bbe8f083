"""Protocol of a broker, which keeps jobs and pictures, and the records that it gives.

The API calls a broker through `Broker`; a worker, in a process of its own, through the messages of
`runtime.wire.messages`, which a session passes on to `runtime.jobs.worker_side`. The local broker
keeps jobs and pictures in SQLite; another may keep them in a cluster.

A job's life: queued -> processing -> completed | failed | canceled. The lease of a worker that dies
expires: its job is queued again for another attempt, up to a number of attempts.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from runtime.errors import CalotypeError
from runtime.jobs.facts import Counters


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def ended(self) -> bool:
        """True for the final statuses."""
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED)


class QueueFull(CalotypeError):
    """As many jobs wait as the queue takes; the caller may try again."""


class Stopping(CalotypeError):
    """The server is being stopped, and takes no job any more."""


class Unavailable(CalotypeError):
    """Jobs that are kept on other machines cannot be reached; the caller may try again."""


class JobNotFound(CalotypeError):
    """There is no job of that id."""


class JobEnded(CalotypeError):
    """The job has completed or failed, and cannot be canceled any more."""


class ImageNotFound(CalotypeError):
    """There is no picture of that name."""


class IdempotencyConflict(CalotypeError):
    """The key was used before with another body."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's key for one request, and the fingerprint of that request's body."""

    key: str
    fingerprint: str

    @classmethod
    def of(cls, key: str, body: object) -> "Idempotency":
        """`body`: the parsed body as it was sent, no default filled in, no seed drawn."""
        canonical = json.dumps(_canonical(body), sort_keys=True, ensure_ascii=True)
        return cls(key, hashlib.sha256(canonical.encode()).hexdigest())


def _canonical(value: object) -> object:
    """The value with whole floats as integers: 20 and 20.0 are the same number in JSON."""
    match value:
        case Mapping():
            return {name: _canonical(member) for name, member in value.items()}
        case list():
            return [_canonical(member) for member in value]
        case float() if value.is_integer():
            return int(value)
    return value


@dataclass(frozen=True, slots=True)
class Image:
    """A finished picture, as the gallery lists it."""

    filename: str
    width: int
    height: int
    seed: int
    prompt: str
    model: str
    created_at: datetime
    job_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class JobError:
    """The reason why a job failed, for people."""

    title: str
    detail: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now."""

    job_id: str
    model: str
    status: JobStatus
    step: int
    total_steps: int
    queue_position: int | None
    """1 for the job that is leased next; None for a job that is not queued."""
    attempt: int
    priority: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    request: Mapping[str, Any]
    image: Image | None
    error: JobError | None
    cancel_requested: bool
    warnings: tuple[str, ...] = ()
    """Sentences on what the finished picture's file lacks."""
    batch_id: str | None = None
    """Shared by the jobs of one request for several pictures; None for a job by itself."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """An event of a job. A slow listener gets every status, and may miss previews."""

    id: str
    """Opaque, without a comma; grows along a job's life. A client sends it as Last-Event-ID."""
    status: JobStatus
    queue_position: int | None = None
    step: int | None = None
    total_steps: int | None = None
    preview: str | None = None
    """A data URL, encoded once for all listeners."""
    image: Image | None = None
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class GalleryEvent:
    """A picture came (`image`) or went (`deleted`), or a stream begins (`snapshot`)."""

    id: str
    image: Image | None = None
    deleted: str | None = None
    newest: str | None = None
    """File name of the newest picture at a snapshot; None in an empty gallery."""
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Pictures, newest first."""

    images: Sequence[Image]
    next_cursor: str | None


class Broker(Protocol):
    """A broker as the API calls it. No method blocks the event loop."""

    async def submit(
        self,
        model: str,
        requests: Sequence[Mapping[str, Any]],
        total_steps: int,
        idempotency: Idempotency | None = None,
    ) -> Sequence[Job]:
        """Store a job for each request durably, all or none, and answer with the jobs in the
        requests' order; with an idempotency key, at most once. Several jobs are one batch.

        A key that was used before, with the same body, answers with those jobs as they are now.

        Raises QueueFull, NoRoom, Stopping, IdempotencyConflict.
        """
        ...

    async def replay(self, idempotency: Idempotency) -> Sequence[Job]:
        """The jobs that a key stands for, as they are now; none for a new key.

        Raises IdempotencyConflict.
        """
        ...

    async def job(self, job_id: str) -> Job:
        """The job as it is now. Raises JobNotFound."""
        ...

    async def batch(self, batch_id: str) -> Sequence[Job]:
        """The jobs of a batch as they are now, in the order of their submission, without those
        that were deleted since. Raises JobNotFound where there is none.
        """
        ...

    async def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; may be repeated. Raises JobNotFound, JobEnded."""
        ...

    def follow(self, job_id: str, last_event_id: str | None = None) -> AsyncIterator[JobEvent]:
        """The job's events: first a snapshot, or what came after `last_event_id`; then live.

        Ends after the final event. Raises JobNotFound on its first step.
        """
        ...

    async def seen_final(self, job_id: str, last_event_id: str) -> bool:
        """True where that event was the job's last. Raises JobNotFound."""
        ...

    async def images(self, limit: int, cursor: str | None) -> Page:
        """A page of the gallery. Raises ValueError for a text that is no cursor of a page."""
        ...

    async def image(self, filename: str) -> Image:
        """The picture of this file name. Raises ImageNotFound."""
        ...

    async def delete_image(self, filename: str) -> None:
        """Delete a picture's row, file and thumbnail; one that failed may be repeated.

        Raises ImageNotFound, NoRoom.
        """
        ...

    def follow_gallery(
        self, last_event_id: str | None = None
    ) -> AsyncIterator[Sequence[GalleryEvent]]:
        """First a snapshot, or what came after `last_event_id`, then every picture that comes or
        goes; what came together is told together.

        A listener that is too slow may get another snapshot in place of the events it missed.
        """
        ...

    def fault(self) -> str:
        """The reason why no job is taken or drawn now, with the remedy; empty for none."""
        ...

    def stop(self) -> None:
        """Take no job any more, and end every `follow` and `follow_gallery`: the server is being
        stopped.
        """
        ...

    def counters(self) -> Counters:
        """Counts since the start of the server, and the length of the queue now."""
        ...

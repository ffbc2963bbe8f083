"""Messages of the stream: what was submitted, and how each job stands."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from runtime.jobs.protocol import Image, Job, JobError, JobStatus


@dataclass(frozen=True, slots=True)
class Asked:
    """One of the pictures of a submission."""

    job_id: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Submission:
    """The jobs of one request. They exist once this is in the stream: all of them, or none."""

    model: str
    jobs: tuple[Asked, ...]
    total_steps: int
    created_at: datetime
    batch_id: str | None = None

    def job(self, index: int) -> Job:
        """The job of this place, as nobody has touched it yet."""
        asked = self.jobs[index]
        return Job(
            job_id=asked.job_id,
            model=self.model,
            status=JobStatus.QUEUED,
            step=0,
            total_steps=self.total_steps,
            queue_position=None,
            attempt=0,
            priority=asked.request["priority"],
            created_at=self.created_at,
            started_at=None,
            finished_at=None,
            request=asked.request,
            image=None,
            error=None,
            cancel_requested=False,
            batch_id=self.batch_id,
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands: all of it that changes. A new one takes the place of the one before.

    It counts only where it was made from the one that counts now. Readers decide that, who all read
    in one order.
    """

    base: int
    """The number of the message of the standing that this was made from; 0 for none."""
    status: JobStatus
    holder: str | None
    """The worker that has the job's lease."""
    server: str | None
    """The server or the worker's machine that the holder is connected to."""
    attempt: int
    step: int
    started_at: datetime | None
    finished_at: datetime | None
    image: Image | None
    error: JobError | None
    cancel_requested: bool
    warnings: tuple[str, ...]
    token: str
    """Known to the writer alone, who so hears what became of a write."""

    @classmethod
    def of(
        cls, job: Job, base: int, *, holder: str | None, server: str | None, token: str
    ) -> "Standing":
        """The standing of a job."""
        return cls(
            base=base,
            status=job.status,
            holder=holder,
            server=server,
            attempt=job.attempt,
            step=job.step,
            started_at=job.started_at,
            finished_at=job.finished_at,
            image=job.image,
            error=job.error,
            cancel_requested=job.cancel_requested,
            warnings=job.warnings,
            token=token,
        )

    def on(self, job: Job) -> Job:
        """The job as it stands; `job` gives what never changes."""
        return replace(
            job,
            status=self.status,
            attempt=self.attempt,
            step=self.step,
            started_at=self.started_at,
            finished_at=self.finished_at,
            image=self.image,
            error=self.error,
            cancel_requested=self.cancel_requested,
            warnings=self.warnings,
        )


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """The jobs that an idempotency key stands for: of several such messages the first, as long as
    it lives.
    """

    fingerprint: str
    submission: str
    job_ids: tuple[str, ...]
    created_at: datetime


SUBMISSION = TypeAdapter(Submission)
STANDING = TypeAdapter(Standing)
KEY = TypeAdapter(KeyRecord)

"""Changes of a job, as functions: each gives the job and its holder as they are afterwards, or
raises the reason why it cannot be.
"""

from collections.abc import Callable, Set
from dataclasses import replace
from datetime import datetime

from runtime.jobs.endings import ATTEMPTS_USED_UP
from runtime.jobs.protocol import Image, Job, JobEnded, JobError, JobStatus
from runtime.jobs.records import StoredJob, now
from runtime.jobs.worker_side import StaleLease

Transition = Callable[[StoredJob], StoredJob | None]
"""None where nothing is to be changed."""


class NotQueued(Exception):
    """Somebody else was faster with a job that had waited."""


def leased_to(holder: str) -> Transition:
    """Another attempt begins; `started_at` stays that of the first."""

    def change(stored: StoredJob) -> StoredJob:
        job = stored.job
        if job.status is not JobStatus.QUEUED:
            raise NotQueued
        started = job.started_at or now()
        return _put(stored, holder, JobStatus.PROCESSING, attempt=job.attempt + 1, started=started)

    return change


def ended_by(
    holder: str,
    status: JobStatus,
    step: int,
    *,
    error: JobError | None = None,
    image: Image | None = None,
    warnings: tuple[str, ...] = (),
) -> Transition:
    """The holder reports the end; a cancel that was answered before comes first."""

    def change(stored: StoredJob) -> StoredJob:
        _check_lease(stored, holder)
        if stored.job.cancel_requested:
            return ended(stored, JobStatus.CANCELED, step)
        done = ended(stored, status, step, error)
        return replace(done, job=replace(done.job, image=image, warnings=warnings))

    return change


def put_back_by(holder: str, step: int) -> Transition:
    """The holder gives the job back; the attempt is not counted."""

    def change(stored: StoredJob) -> StoredJob:
        _check_lease(stored, holder)
        if stored.job.cancel_requested:
            return ended(stored, JobStatus.CANCELED, step)
        return _queued(stored, counted=False)

    return change


def given_up(holder: str, reason: str, at_risk: Set[str], max_attempts: int) -> Transition:
    """The holder is gone: the attempt counts for jobs `at_risk`, and a job that was so alone fails
    with its last one.
    """

    def change(stored: StoredJob) -> StoredJob | None:
        job = stored.job
        if stored.holder != holder or job.status is not JobStatus.PROCESSING:
            return None  # Another server has done it.
        if job.cancel_requested:
            return ended(stored, JobStatus.CANCELED, job.step)
        if at_risk == {job.job_id} and job.attempt >= max_attempts:
            detail = f"attempt {job.attempt} of {job.attempt} was the last: {reason}"
            return ended(stored, JobStatus.FAILED, job.step, JobError(ATTEMPTS_USED_UP, detail))
        return _queued(stored, counted=job.job_id in at_risk)

    return change


def canceled(stored: StoredJob) -> StoredJob | None:
    """A caller wants the job no more. Raises JobEnded."""
    job = stored.job
    match job.status:
        case JobStatus.QUEUED:
            return ended(stored, JobStatus.CANCELED, job.step)
        case JobStatus.PROCESSING if not job.cancel_requested:
            return replace(stored, job=replace(job, cancel_requested=True))
        case JobStatus.COMPLETED | JobStatus.FAILED:
            raise JobEnded(f"job {job.job_id} has {job.status}: there is nothing to cancel")
    return None


def without_picture(stored: StoredJob) -> StoredJob | None:
    """The picture was deleted."""
    if stored.job.image is None:
        return None
    return replace(stored, job=replace(stored.job, image=None))


def failed(error: JobError) -> Transition:
    """Nobody will ever make the job."""

    def change(stored: StoredJob) -> StoredJob | None:
        return None if stored.job.status.ended else ended(stored, JobStatus.FAILED, 0, error)

    return change


def ended(
    stored: StoredJob, status: JobStatus, step: int, error: JobError | None = None
) -> StoredJob:
    """The job at its end."""
    job = replace(
        stored.job,
        status=status,
        step=step,
        finished_at=now(),
        error=error,
        cancel_requested=stored.job.cancel_requested or status is JobStatus.CANCELED,
    )
    return replace(stored, holder=None, job=job)


def _queued(stored: StoredJob, *, counted: bool) -> StoredJob:
    """An attempt that is not `counted` leaves no trace."""
    job = stored.job
    attempt = job.attempt - (not counted)
    started = job.started_at if attempt else None
    return _put(stored, None, JobStatus.QUEUED, attempt=attempt, started=started)


def _put(
    stored: StoredJob,
    holder: str | None,
    status: JobStatus,
    *,
    attempt: int,
    started: datetime | None,
) -> StoredJob:
    job: Job = replace(stored.job, status=status, step=0, attempt=attempt, started_at=started)
    return replace(stored, holder=holder, job=job)


def _check_lease(stored: StoredJob, holder: str) -> None:
    if stored.holder != holder or stored.job.status is not JobStatus.PROCESSING:
        raise StaleLease(stored.job.job_id, holder)

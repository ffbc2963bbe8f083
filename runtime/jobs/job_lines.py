"""Log lines of a job's life: submitted, started, ended; never with its prompt."""

import logging

from runtime.jobs.protocol import Job, JobStatus
from runtime.jobs.records import age

logger = logging.getLogger(__name__)


def submitted(job: Job) -> None:
    """The job is on disk."""
    size = {name: job.request[name] for name in ("width", "height") if name in job.request}
    fields = {"model": job.model, **size, "steps": job.total_steps, "priority": job.priority}
    logger.info("job submitted", extra={"job_id": job.job_id, **fields})


def started(job: Job) -> None:
    """A worker has the job; `waited` is its age in seconds."""
    fields = {"attempt": job.attempt, "waited": round(age(job), 3)}
    logger.info("job started", extra={"job_id": job.job_id, **fields})


def queued_again(job: Job) -> None:
    """The job's worker has lost it, or has handed it back."""
    logger.info("job queued again", extra={"job_id": job.job_id, "attempts": job.attempt})


def ended(job: Job) -> None:
    """The job is over; `seconds` is its age."""
    fields = {"status": job.status.value, "seconds": round(age(job), 3)}
    if job.image is not None:
        fields["picture"] = job.image.filename
    if job.error is not None:
        fields["error"] = job.error.title
    level = logging.WARNING if job.status is JobStatus.FAILED else logging.INFO
    logger.log(level, "job ended", extra={"job_id": job.job_id, **fields})

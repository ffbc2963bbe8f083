"""Reasons of jobs that end without a picture, for people."""

from runtime.jobs.protocol import Job, JobError

ATTEMPTS_USED_UP = "The job's worker was lost"


def other_model(job: Job, model: str) -> JobError:
    """The job's model is not served any more, but `model` is."""
    return JobError(
        "Another model is loaded",
        f"the job was queued for the model {job.model!r}; this server now serves {model!r}. "
        f"Submit it again to a server with --model {job.model}",
    )

"""Reasons of jobs that end without a picture, for people."""

from collections.abc import Sequence

from runtime.jobs.protocol import Job, JobError

ATTEMPTS_USED_UP = "The job's worker was lost"


def other_model(job: Job, models: Sequence[str]) -> JobError:
    """The job's model is not served any more, but these are."""
    served = ", ".join(map(repr, models))
    return JobError(
        "Another model is loaded",
        f"the job was queued for the model {job.model!r}; this server now serves {served}. "
        f"Submit it again to a server with --model {job.model}",
    )

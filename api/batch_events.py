"""Server-Sent Events of a batch: the events of its jobs as they come, each with its job's id.

The id of an event names the last event that was told of each job, in the order of the batch: a
client that hands it back misses no status of any.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from api.events import batch_frame, closing
from api.merging import merged
from runtime.jobs.protocol import Broker, Job, JobEvent

SEPARATOR = ","


async def batch_stream(
    broker: Broker, jobs: Sequence[Job], last_event_id: str | None
) -> AsyncGenerator[bytes]:
    """Of each job a snapshot of now, or what came after `last_event_id`; then all live."""
    seen = _seen(jobs, last_event_id)
    told = [
        _numbered(number, broker.follow(job.job_id, seen[number] or None))
        for number, job in enumerate(jobs)
    ]
    async with closing(merged(told)) as events:
        async for number, event in events:
            seen[number] = event.id
            yield batch_frame(SEPARATOR.join(seen), jobs[number].job_id, event)


async def seen_every_final(broker: Broker, jobs: Sequence[Job], last_event_id: str) -> bool:
    """True where that event was the last of the batch."""
    for job, seen in zip(jobs, _seen(jobs, last_event_id), strict=True):
        if not await broker.seen_final(job.job_id, seen):
            return False
    return True


def _seen(jobs: Sequence[Job], last_event_id: str | None) -> list[str]:
    """The last event that a client has seen of each job; empty for none.

    An id of another number of jobs tells nothing: it is not ours, or jobs were deleted since.
    """
    seen = [] if last_event_id is None else last_event_id.split(SEPARATOR)
    return seen if len(seen) == len(jobs) else [""] * len(jobs)


async def _numbered(
    number: int, events: AsyncIterator[JobEvent]
) -> AsyncIterator[tuple[int, JobEvent]]:
    async with closing(events):
        async for event in events:
            yield number, event

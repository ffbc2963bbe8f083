"""Server-Sent Events of jobs and of the gallery.

An event has an id and no name, so that `EventSource.onmessage` gets every event; its data is one
JSON object.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import TypeVar, cast

from fastapi.sse import format_sse_event

from api import schemas
from runtime.jobs.protocol import GalleryEvent, JobEvent, JobStatus

RETRY_MILLISECONDS = 2000
GALLERY_FRAMES = 256

EventT = TypeVar("EventT")


async def job_stream(events: AsyncIterator[JobEvent]) -> AsyncGenerator[bytes]:
    """A job's events as Server-Sent Events."""
    async with closing(events):
        async for event in events:
            yield _frame(event.id, job_event(event))


async def gallery_stream(
    events: AsyncIterator[Sequence[GalleryEvent]],
) -> AsyncGenerator[bytes]:
    """The gallery's events as Server-Sent Events; those that came together are one frame."""
    async with closing(events):
        async for together in events:
            yield b"".join(map(_gallery_frame, together))


def batch_frame(event_id: str, job_id: str, event: JobEvent) -> bytes:
    """An event of a batch: that of its job, with the job's id in it."""
    return _framed(event_id, schemas.in_batch(job_id, job_event(event)))


def closing(events: AsyncIterator[EventT]) -> "aclosing[AsyncGenerator[EventT, None]]":
    """A context that closes the iterator at its end, not when the garbage is collected."""
    return aclosing(cast("AsyncGenerator[EventT, None]", events))


def job_event(event: JobEvent) -> schemas.JobEvent:
    """A job's event as the API shows it."""
    match event.status:
        case JobStatus.QUEUED:
            return schemas.Queued(queue_position=event.queue_position)
        case JobStatus.PROCESSING:
            return schemas.Processing(
                step=event.step or 0, total_steps=event.total_steps or 0, preview=event.preview
            )
        case JobStatus.COMPLETED:
            return schemas.Completed(image=schemas.Image.of(event.image) if event.image else None)
        case JobStatus.FAILED:
            assert event.error is not None
            return schemas.Failed(error=schemas.JobError.of(event.error))
        case JobStatus.CANCELED:
            return schemas.Canceled()


def gallery_event(event: GalleryEvent) -> schemas.GalleryEvent:
    """The gallery's event as the API shows it."""
    if event.image is not None:
        return schemas.ImageAdded(image=schemas.Image.of(event.image))
    if event.deleted is not None:
        return schemas.ImageDeleted(filename=event.deleted)
    return schemas.GallerySnapshot(newest=event.newest)


@lru_cache(maxsize=GALLERY_FRAMES)
def _gallery_frame(event: GalleryEvent) -> bytes:
    """The event as every listener gets it: written once, since there may be a thousand."""
    return _frame(event.id, gallery_event(event))


def _frame(event_id: str, data: schemas.JobEvent | schemas.GalleryEvent) -> bytes:
    return _framed(event_id, data.model_dump_json())


def _framed(event_id: str, text: str) -> bytes:
    return format_sse_event(data_str=text, id=event_id, retry=RETRY_MILLISECONDS)

"""`/api/sse/...`: the progress of a job or of a batch, and the gallery, live.

An error inside a stream would be answered as an empty 200: 404 and 204 are decided beforehand.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from starlette.types import Scope

from api.batch_events import batch_stream, seen_every_final
from api.errors import StreamOver, problems
from api.event_stream import EventStream
from api.events import gallery_stream, job_stream
from api.metrics import Stream
from api.openapi import BATCH_EVENTS, GALLERY_EVENTS, JOB_EVENTS, reference
from api.services import Rooms, Services
from runtime.jobs.protocol import Job

router = APIRouter(prefix="/api/sse", tags=["streams"])

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The last event that was seen; what came after it is sent again.",
    ),
]


def _stream(events: str, description: str) -> dict[int | str, dict[str, Any]]:
    """Response of an event stream, for the documentation; `events`: the schema of its data."""
    item = {
        "type": "object",
        "required": ["id", "data"],
        "properties": {
            "id": {"type": "string"},
            "retry": {"type": "integer"},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": reference(events),
            },
        },
    }
    content = {"text/event-stream": {"itemSchema": item}}
    return {200: {"description": description, "content": content}}


@contextmanager
def in_place(rooms: Services, scope: Scope, of: Stream) -> Iterator[None]:
    """One of a caller's places for streams is taken within the block. Raises OverBound."""
    with rooms.callers.streaming(rooms.callers.of(scope)), rooms.metrics.streaming(of):
        yield


def place(of: Stream) -> Any:
    """Dependency on a caller's place for a stream, from before its first byte to its end."""

    async def taken(request: Request, rooms: Rooms) -> AsyncIterator[None]:
        with in_place(rooms, request.scope, of):
            yield

    return Depends(taken)


@router.get(
    "/gallery",
    status_code=200,
    response_class=EventStream,
    dependencies=[place("gallery")],
    responses={
        **_stream(
            GALLERY_EVENTS, "A snapshot or what was missed, then every picture that comes or goes."
        ),
        **problems(429),
    },
)
async def follow_gallery(rooms: Rooms, last_event_id: LastEventId = None) -> EventStream:
    """Follow the gallery."""
    return EventStream(gallery_stream(rooms.broker.follow_gallery(last_event_id)))


async def _open_batch(
    batch_id: str, rooms: Rooms, last_event_id: LastEventId = None
) -> Sequence[Job]:
    jobs = await rooms.broker.batch(batch_id)
    if last_event_id is not None and await seen_every_final(rooms.broker, jobs, last_event_id):
        raise StreamOver
    return jobs


@router.get(
    "/batch/{batch_id}",
    status_code=200,
    response_class=EventStream,
    dependencies=[place("job")],
    responses={
        **_stream(
            BATCH_EVENTS,
            "Of each job a snapshot or what was missed, then live; ends with the last job.",
        ),
        204: {"description": "The last event that was seen was the last job's final one."},
        **problems(404, 429),
    },
)
async def follow_batch(
    jobs: Annotated[Sequence[Job], Depends(_open_batch)],
    rooms: Rooms,
    last_event_id: LastEventId = None,
) -> EventStream:
    """Follow the jobs of one request for several pictures."""
    return EventStream(batch_stream(rooms.broker, jobs, last_event_id))


async def _open_stream(job_id: str, rooms: Rooms, last_event_id: LastEventId = None) -> None:
    await rooms.broker.job(job_id)
    if last_event_id is not None and await rooms.broker.seen_final(job_id, last_event_id):
        raise StreamOver


@router.get(
    "/{job_id}",
    status_code=200,
    response_class=EventStream,
    dependencies=[Depends(_open_stream), place("job")],
    responses={
        **_stream(JOB_EVENTS, "A snapshot or what was missed, then live; the final event ends it."),
        204: {"description": "The last event that was seen was the final one."},
        **problems(404, 429),
    },
)
async def follow_job(job_id: str, rooms: Rooms, last_event_id: LastEventId = None) -> EventStream:
    """Follow a job."""
    return EventStream(job_stream(rooms.broker.follow(job_id, last_event_id)))

"""`/v1/...`: OpenAI's Images API, as its clients call it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response

from api.body import read_json_body
from api.event_stream import EventStream
from api.openai.answers import (
    ImagesAnswer,
    Look,
    ServedModel,
    ServedModels,
    Usage,
    image_data,
)
from api.openai.errors import openai_errors
from api.openai.events import image_stream, with_previews
from api.openai.translation import (
    ImagesRequest,
    in_their_words,
    model_of,
    named_model,
    read_images,
)
from api.openapi import IMAGES_BODY, reference
from api.routes.streams import place
from api.services import Rooms, Services
from api.submission import ended, read_order, submit
from runtime.errors import RequestError
from runtime.jobs.protocol import Job, JobEnded
from runtime.plan.order import Order, for_several

router = APIRouter(prefix="/v1", tags=["openai"])


@router.post(
    "/images/generations",
    response_model=ImagesAnswer,
    # A request that waits for its pictures follows their jobs as a stream does.
    dependencies=[place("job")],
    responses={
        200: {"content": {"text/event-stream": {}}},
        **openai_errors(400, 401, 403, 404, 413, 415, 429, 500, 503, 507),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": reference(IMAGES_BODY)}},
        }
    },
)
async def create_images(request: Request, rooms: Rooms) -> Response:
    """Draw pictures, and answer with them or with the events of their making."""
    body = await read_json_body(request)
    asked, order = await _read(rooms, body)
    order = with_previews(order, asked.partial_images)
    jobs = await submit(rooms, request.scope, order)
    if asked.stream:
        frames = image_stream(rooms, order, jobs, asked.partial_images)
        return EventStream(_attended(rooms, jobs, frames))
    finished = asyncio.gather(*(ended(rooms.broker, job.job_id) for job in jobs))
    if rooms.dialects.cancel_on_disconnect:
        await _until_left(request, rooms, jobs, finished)
    base_url = str(request.base_url).rstrip("/") if asked.with_url else None
    answer = ImagesAnswer(
        **Look.of(order).model_dump(),
        created=int(jobs[0].created_at.timestamp()),
        data=[
            await image_data(rooms, job, base_url, with_content=asked.with_content)
            for job in await finished
        ],
        usage=Usage.of(order),
    )
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")


@router.get("/models", responses=openai_errors(401, 403))
async def list_models(rooms: Rooms) -> ServedModels:
    """The models that a request may name."""
    return ServedModels(data=[ServedModel(id=name) for name in rooms.models.names])


@router.get("/models/{model}", responses=openai_errors(401, 403, 404))
async def get_model(model: str, rooms: Rooms) -> ServedModel:
    """A model that a request may name."""
    return ServedModel(id=named_model(model, rooms.models).name)


async def _read(rooms: Services, body: object) -> tuple[ImagesRequest, Order]:
    """A body, checked completely. Raises RequestError, UnknownModel, NotReady."""

    def parameters() -> Mapping[str, Any]:
        return for_several(model.parameters(model.loras()))

    model = model_of(body, rooms.models)
    asked = read_images(body, await asyncio.to_thread(parameters))
    try:
        return asked, await read_order(rooms, asked.body)
    except RequestError as error:
        raise in_their_words(error) from error


async def _attended(
    rooms: Services, jobs: Sequence[Job], frames: AsyncGenerator[bytes]
) -> AsyncGenerator[bytes]:
    """The frames; a caller that goes before the last one takes its jobs with it, by setting."""
    over = False
    try:
        async with aclosing(frames):
            async for frame in frames:
                yield frame
        over = True
    finally:
        if not over and rooms.dialects.cancel_on_disconnect:
            await _cancel(rooms, jobs)


async def _until_left(
    request: Request, rooms: Services, jobs: Sequence[Job], finished: "asyncio.Future[list[Job]]"
) -> None:
    """Wait for the jobs; cancel them where the caller goes first."""
    leaving = asyncio.ensure_future(request.receive())
    either: list[asyncio.Future[Any]] = [finished, leaving]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            await _cancel(rooms, jobs)
    finally:
        leaving.cancel()


async def _cancel(rooms: Services, jobs: Sequence[Job]) -> None:
    for job in jobs:
        try:
            await rooms.broker.cancel(job.job_id)
        except JobEnded:
            continue

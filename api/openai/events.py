"""Stream of OpenAI's `images.generate`: partial images, then each picture as it is finished."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace

from fastapi.sse import format_sse_event

from api.events import closing
from api.merging import merged
from api.openai.answers import CompletedImage, Look, PartialImage, Usage, encoded, picture_of
from api.openai.errors import OpenAIErrorBody, openai_error
from api.services import Services
from runtime.errors import CalotypeError
from runtime.jobs.protocol import Job, JobEvent, Stopping
from runtime.plan.order import Order


def with_previews(order: Order, partial_images: int) -> Order:
    """The order with so many previews, evenly spread over the steps; the model makes no others."""
    if not partial_images:
        return order
    every = max(1, order.plan.steps // (partial_images + 1))
    requests = [replace(request, preview_every=every) for request in order.requests]
    return replace(order, requests=requests)


async def image_stream(
    rooms: Services, order: Order, jobs: Sequence[Job], partial_images: int
) -> AsyncGenerator[bytes]:
    """The events of an order's jobs, as they come; an error is the last event."""
    try:
        told = [_told(rooms, order, job.job_id, partial_images) for job in jobs]
        async with closing(merged(told)) as events:
            async for event in events:
                yield _frame(event.type, event)
    except CalotypeError as error:
        yield _frame("error", openai_error(503 if isinstance(error, Stopping) else 500, str(error)))


async def _told(
    rooms: Services, order: Order, job_id: str, partial_images: int
) -> AsyncIterator[PartialImage | CompletedImage]:
    """A job's events in the dialect. Raises PictureFailed, Stopping."""
    form = Look.of(order).model_dump()
    shown = 0
    async with closing(rooms.broker.follow(job_id)) as events:
        async for event in events:
            if event.status.ended:
                yield await _completed(rooms, order, event)
                return
            if event.preview is not None and shown < partial_images:
                content = event.preview.partition(",")[2]
                # The preview decoder writes JPEGs, whatever the finished picture will be.
                jpeg = {**form, "output_format": "jpeg"}
                yield PartialImage(
                    **jpeg,
                    b64_json=content,
                    partial_image_index=shown,
                    created_at=int(time.time()),
                )
                shown += 1
    raise Stopping("the server is being stopped; the picture is drawn once it is back")


async def _completed(rooms: Services, order: Order, event: JobEvent) -> CompletedImage:
    image = picture_of(event.status, event.image, event.error)
    return CompletedImage(
        **Look.of(order).model_dump(),
        b64_json=await encoded(rooms, image),
        created_at=int(image.created_at.timestamp()),
        usage=Usage.of(order),
    )


def _frame(name: str, data: PartialImage | CompletedImage | OpenAIErrorBody) -> bytes:
    return format_sse_event(data_str=data.model_dump_json(), event=name)

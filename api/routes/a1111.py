"""`/sdapi/v1`: AUTOMATIC1111's API, over the same requests, queue and events.

Nothing here checks, queues or draws by itself. A caller that hangs up loses nothing: its pictures
are drawn, and lie in the gallery.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from api.a1111.answers import Nothing, Pictures, PngInfo, Progress
from api.a1111.desk import Desk
from api.a1111.drawing import Drawing
from api.a1111.finished import Finished, info, read_finished
from api.a1111.png_info import read_picture
from api.a1111.txt2img import as_theirs
from api.body import parse_body, read_body, read_json_body
from api.callers import KEY
from api.errors import PictureNotMade, problems
from api.events import closing
from api.openapi import TXT2IMG_BODY, reference
from api.routes.jobs import shown
from api.routes.streams import place
from api.services import Rooms, Services
from api.submission import read_order, submit
from runtime.errors import RequestError
from runtime.jobs.protocol import JobEnded, JobStatus, Stopping

router = APIRouter(prefix="/sdapi/v1", tags=["a1111"])

MAX_PICTURE_BYTES = 16 << 20
"""The most bytes of a body that brings a picture along, in base64."""

_IMAGE_BODY = {
    "type": "object",
    "required": ["image"],
    "properties": {"image": {"type": "string", "description": "A picture file in base64."}},
}


def desk(request: Request) -> Desk:
    """The desk of this API, for a route that asks for `OpenDesk`."""
    found: Desk = request.app.state.a1111
    return found


OpenDesk = Annotated[Desk, Depends(desk)]


def _body(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    "/txt2img",
    # A request that waits for its pictures follows their jobs as a stream does.
    dependencies=[place("job")],
    responses=problems(400, 403, 413, 415, 422, 429, 500, 503, 507),
    openapi_extra=_body(reference(TXT2IMG_BODY)),
)
async def draw_txt2img(request: Request, rooms: Rooms, desk: OpenDesk) -> Pictures:
    """Draw pictures and answer with them. Those that were interrupted are left out."""
    body = await read_json_body(request)
    window = desk.window_of(owner(request), body)
    wanted = await asyncio.to_thread(window.txt2img.read, body)
    try:
        order = await read_order(rooms, {**wanted.order, "model": window.checkpoint.name})
    except RequestError as error:
        raise as_theirs(error) from error
    jobs = await submit(rooms, request.scope, order)
    with desk.drawings.drawing(owner(request), [job.job_id for job in jobs]) as drawing:
        await asyncio.gather(*(_follow(rooms, drawing, job.job_id) for job in jobs))
    finished = await _finished(rooms, [job.job_id for job in jobs])
    return Pictures(
        images=[each.content for each in finished if each.content] if wanted.send_images else [],
        parameters=body if isinstance(body, dict) else {},
        info=json.dumps(info(finished, window.checkpoint)),
    )


@router.get("/progress", responses=problems(422))
async def get_progress(
    request: Request, desk: OpenDesk, skip_current_image: Annotated[bool, Query()] = False
) -> Progress:
    """The progress of the caller's oldest request, and a picture of what it shows by now."""
    drawings = desk.drawings.of(owner(request))
    return drawings[0].progress(with_image=not skip_current_image) if drawings else Progress()


@router.post("/interrupt", responses=problems(403))
async def interrupt(request: Request, rooms: Rooms, desk: OpenDesk) -> Nothing:
    """Cancel all that the caller has asked for by txt2img; without keys, all that anybody has."""
    for drawing in desk.drawings.of(owner(request)):
        drawing.interrupted = True
        await _cancel(rooms, drawing.unfinished)
    return Nothing()


@router.post("/skip", responses=problems(403))
async def skip(request: Request, rooms: Rooms, desk: OpenDesk) -> Nothing:
    """Cancel the pictures of the caller's requests that are being drawn; others follow."""
    for drawing in desk.drawings.of(owner(request)):
        await _cancel(rooms, drawing.processing)
    return Nothing()


@router.post(
    "/png-info",
    responses=problems(400, 403, 413, 415, 422),
    openapi_extra=_body(_IMAGE_BODY),
)
async def read_png_info(request: Request) -> PngInfo:
    """The recipe in a picture: PNG, WebP or JPEG."""
    sent = await read_body(request, MAX_PICTURE_BYTES)
    return await asyncio.to_thread(_png_info, sent)


def _png_info(sent: bytes) -> PngInfo:
    body = parse_body(sent)
    image = body.get("image") if isinstance(body, dict) else None
    if not isinstance(image, str):
        raise RequestError("/image", "the body is one member, `image`, a picture file in base64")
    return read_picture(image)


def owner(request: Request) -> str:
    """The caller of whom a request tells, and whose it ends: a key, or everybody without keys."""
    return request.scope[KEY].id if KEY in request.scope else ""


async def _follow(rooms: Services, drawing: Drawing, job_id: str) -> None:
    async with closing(rooms.broker.follow(job_id)) as events:
        async for event in events:
            drawing.heard(job_id, event)


async def _cancel(rooms: Services, job_ids: Sequence[str]) -> None:
    for job_id in job_ids:
        try:
            await rooms.broker.cancel(job_id)
        except JobEnded:
            continue  # In the moment between.


async def _finished(rooms: Services, job_ids: Sequence[str]) -> Sequence[Finished]:
    """The jobs with their pictures. Raises PictureNotMade where one failed; Stopping."""
    finished = []
    for job_id in job_ids:
        job = await rooms.broker.job(job_id)
        if not job.status.ended:
            raise Stopping("the server is being stopped; the picture is drawn after its next start")
        if job.status is JobStatus.FAILED and job.error is not None:
            raise PictureNotMade(f"{job.error.title}: {job.error.detail}")
        warnings = (await shown(job, rooms)).warnings
        finished.append(
            await asyncio.to_thread(read_finished, job, rooms.files.picture_path, warnings)
        )
    return finished

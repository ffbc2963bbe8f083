"""`POST /api/generate`: checks a request completely, then queues it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from api.body import read_json_body
from api.callers import KEY
from api.errors import problems
from api.openapi import BODY, reference
from api.preferences import MAX_WAIT_SECONDS, preferred_wait
from api.routes.jobs import shown
from api.routes.streams import in_place
from api.schemas import Accepted, AcceptedBatch, Job, job_url
from api.services import Rooms
from api.submission import ended, read_order, submit
from runtime.errors import RequestError
from runtime.jobs import protocol
from runtime.jobs.protocol import Idempotency, IdempotencyConflict

router = APIRouter(tags=["jobs"])

_LOCATION = {"schema": {"type": "string"}, "description": "The job's address."}
_APPLIED = {"schema": {"type": "string"}, "description": "The preference that was honoured."}

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description=(
            "Names this request: sent again within 24 hours with the same body, it is answered "
            "with the same job."
        ),
    ),
]
Prefer = Annotated[
    str | None,
    Header(
        alias="Prefer",
        description=f"`wait=N`: answer at its end, or after N s ({MAX_WAIT_SECONDS} at most).",
    ),
]


async def _place(request: Request, rooms: Rooms, prefer: Prefer = None) -> AsyncIterator[None]:
    """A place for a request that waits, which follows its job as a stream does."""
    waits = preferred_wait(prefer) is not None
    with in_place(rooms, request.scope, "job") if waits else nullcontext():
        yield


@router.post(
    "/api/generate",
    dependencies=[Depends(_place)],
    status_code=202,
    response_model=Accepted | AcceptedBatch,
    response_description="The job is on disk and will be drawn; a batch where `n` is more than 1.",
    responses={
        200: {
            "model": Job,
            "description": "With `Prefer: wait=N`: the job, no batch, has ended in time.",
            "headers": {"Location": _LOCATION, "Preference-Applied": _APPLIED},
        },
        202: {"headers": {"Location": _LOCATION}},
        **problems(400, 403, 413, 415, 422, 429, 503, 507),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": reference(BODY)}},
        }
    },
)
async def generate(
    request: Request,
    rooms: Rooms,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Submit a picture to be drawn."""
    body = await read_json_body(request)
    key = None
    if idempotency_key is not None:
        owner = request.scope[KEY].id if KEY in request.scope else ""
        key = Idempotency.of(owner + idempotency_key, body)
    try:
        # Jobs that were accepted before stay accepted, though a LoRA or a size may be gone since.
        jobs = await rooms.broker.replay(key) if key is not None else ()
        if not jobs:
            jobs = await submit(rooms, request.scope, await read_order(rooms, body), key)
    except IdempotencyConflict as error:
        raise RequestError("/Idempotency-Key", str(error)) from error
    if jobs[0].batch_id is not None:
        return _answer(AcceptedBatch.of(jobs), 202, {})
    job = jobs[0]
    headers = {"Location": job_url(job.job_id)}
    seconds = preferred_wait(prefer)
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
        job = await _wait(rooms.broker, job, seconds)
        if job.status.ended:
            return _answer(await shown(job, rooms), 200, headers)
    return _answer(Accepted.of(job), 202, headers)


async def _wait(broker: protocol.Broker, job: protocol.Job, seconds: int) -> protocol.Job:
    """The job as it is at its end, or after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await ended(broker, job.job_id)
    except TimeoutError:
        return await broker.job(job.job_id)


def _answer(
    content: Accepted | AcceptedBatch | Job, status: int, headers: dict[str, Any]
) -> Response:
    return Response(content.model_dump_json(), status, headers, "application/json")

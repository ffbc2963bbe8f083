"""`POST /api/generate`: checks a request completely, then queues it."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from api.body import parse_body, read_body
from api.callers import KEY
from api.errors import NotReady, problems
from api.events import closing
from api.openapi import BODY, reference
from api.preferences import MAX_WAIT_SECONDS, preferred_wait
from api.routes.jobs import shown
from api.schemas import Accepted, Job, job_url
from api.services import Rooms, Services
from runtime.errors import RequestError
from runtime.jobs import protocol
from runtime.jobs.facts import EngineFacts
from runtime.jobs.protocol import Idempotency, IdempotencyConflict

router = APIRouter(tags=["jobs"])

PARSED_HERE = 8 * 1024
"""The most bytes of a body that is parsed on the event loop, in a fifth of a millisecond."""

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


@router.post(
    "/api/generate",
    status_code=202,
    response_model=Accepted,
    response_description="The job is on disk and will be drawn.",
    responses={
        200: {
            "model": Job,
            "description": "With `Prefer: wait=N`: the job has ended in time.",
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
    sent = await read_body(request)
    # A small body is parsed in less time than another thread takes to begin with it.
    small = len(sent) <= PARSED_HERE
    body = parse_body(sent) if small else await asyncio.to_thread(parse_body, sent)
    key = None
    if idempotency_key is not None:
        owner = request.scope[KEY].id if KEY in request.scope else ""
        key = Idempotency.of(owner + idempotency_key, body)
    try:
        # A job that was accepted before stays accepted, though a LoRA or a size may be gone since.
        job = await rooms.broker.replay(key) if key is not None else None
        if job is None:
            plan = await asyncio.to_thread(rooms.model.plan_of, body)
            _engine(rooms).served.check(plan)
            complete = plan.request.to_json()
            with rooms.callers.asking(rooms.callers.of(request.scope), pictures=1):
                job = await rooms.broker.submit(rooms.model.name, complete, plan.steps, key)
    except IdempotencyConflict as error:
        raise RequestError("/Idempotency-Key", str(error)) from error
    headers = {"Location": job_url(job.job_id)}
    seconds = preferred_wait(prefer)
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
        job = await _wait(rooms.broker, job, seconds)
        if job.status.ended:
            return _answer(await shown(job, rooms), 200, headers)
    return _answer(Accepted.of(job), 202, headers)


def _engine(rooms: Services) -> EngineFacts:
    """The engine that draws. Raises NotReady before the first worker is ready.

    While a worker is being replaced, requests are checked against the last worker's engine and
    queued; the next worker fails the jobs that its own engine does not take.
    """
    engine = rooms.workers.engine
    if engine is None:
        reasons = [worker.error for worker in rooms.workers.workers if worker.error]
        reason = f" ({reasons[0]})" if reasons else ""
        raise NotReady(f"the model {rooms.model.name} is still being loaded{reason}")
    return engine


async def _wait(broker: protocol.Broker, job: protocol.Job, seconds: int) -> protocol.Job:
    """The job as it is at its end, or after `seconds`."""
    try:
        async with asyncio.timeout(seconds), closing(broker.follow(job.job_id)) as events:
            async for event in events:
                if event.status.ended:
                    break
    except TimeoutError:
        pass
    return await broker.job(job.job_id)


def _answer(content: Accepted | Job, status: int, headers: dict[str, Any]) -> Response:
    return Response(content.model_dump_json(), status, headers, "application/json")

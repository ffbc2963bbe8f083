"""Submission of an order: the one way from a parsed body to queued jobs, for every dialect."""

import asyncio
from collections.abc import Sequence

from starlette.types import Scope

from api.errors import NotReady
from api.events import closing
from api.services import Services
from runtime.jobs.protocol import Broker, Idempotency, Job
from runtime.plan.order import Order


async def read_order(rooms: Services, body: object) -> Order:
    """The order of a parsed body of `/api/generate`, checked completely.

    Raises RequestError; NotReady before the first worker is ready.
    """
    order = await asyncio.to_thread(rooms.models.order_of, body)
    _check_ready(rooms)
    # Of a model that no worker has loaded yet, its worker refuses what the engines do not take.
    if engine := rooms.workers.engine_of(order.model):
        engine.served.check(order.plan)
    return order


async def submit(
    rooms: Services, scope: Scope, order: Order, key: Idempotency | None = None
) -> Sequence[Job]:
    """Queue an order's jobs, all or none, for the caller of a request with this scope.

    Raises OverBound, QueueFull, NoRoom, Stopping, IdempotencyConflict.
    """
    requests = [request.to_json() for request in order.requests]
    with rooms.callers.asking(rooms.callers.of(scope), pictures=len(requests)):
        return await rooms.broker.submit(order.model, requests, order.plan.steps, key)


async def ended(broker: Broker, job_id: str) -> Job:
    """The job at its end, which is waited for; as it is where the server is being stopped."""
    async with closing(broker.follow(job_id)) as events:
        async for event in events:
            if event.status.ended:
                break
    return await broker.job(job_id)


def _check_ready(rooms: Services) -> None:
    """Raises NotReady before the first worker is ready.

    While a worker is being replaced, requests are checked against the last worker's engine and
    queued; the next worker fails the jobs that its own engine does not take.
    """
    if rooms.workers.engine is None:
        reasons = [worker.error for worker in rooms.workers.workers if worker.error]
        reason = f" ({reasons[0]})" if reasons else ""
        raise NotReady(f"the model {rooms.model.name} is still being loaded{reason}")

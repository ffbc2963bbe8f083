"""`/health`, `/ready` and `/metrics`, for monitoring."""

from fastapi import APIRouter, Response

from api.errors import NotReady, problems
from api.metrics import MEDIA_TYPE
from api.schemas import Health, Ready, WorkerInfo
from api.services import Rooms

router = APIRouter(tags=["server"])


@router.get("/health")
async def get_health(rooms: Rooms) -> Health:
    """The API lives; how its workers are."""
    workers = [
        WorkerInfo(
            pid=worker.pid,
            state=worker.state,
            device=worker.device,
            restarts=worker.restarts,
            models=list(worker.models),
        )
        for worker in rooms.workers.workers
    ]
    return Health(workers=workers)


@router.get("/ready", responses=problems(503))
async def get_ready(rooms: Rooms) -> Ready:
    """Whether pictures can be drawn now."""
    if not rooms.workers.ready:
        states = ", ".join(
            f"{worker.state}: {worker.error}" if worker.error else worker.state
            for worker in rooms.workers.workers
        )
        raise NotReady(f"no worker has loaded {rooms.model.name} (workers: {states or 'none'})")
    if fault := rooms.broker.fault():
        raise NotReady(f"no picture can be saved: {fault}")
    return Ready()


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics(rooms: Rooms) -> Response:
    """Figures for Prometheus."""
    page = rooms.metrics.page(rooms.broker.counters(), tuple(rooms.workers.workers))
    return Response(page, headers={"Content-Type": MEDIA_TYPE})

"""`/api/jobs/{job_id}`: reads and cancels a job."""

from fastapi import APIRouter

from api.errors import problems
from api.schemas import Job
from api.services import Rooms

router = APIRouter(prefix="/api/jobs", tags=["jobs"])


@router.get("/{job_id}", responses=problems(404))
async def get_job(job_id: str, rooms: Rooms) -> Job:
    """The job as it is now."""
    return Job.of(await rooms.broker.job(job_id))


@router.delete("/{job_id}", responses=problems(403, 404, 409))
async def cancel_job(job_id: str, rooms: Rooms) -> Job:
    """Cancel a job: at once while it waits, before its next step while it is drawn."""
    return Job.of(await rooms.broker.cancel(job_id))

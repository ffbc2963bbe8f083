"""`/api/jobs/{job_id}`: reads and cancels a job."""

import asyncio

from fastapi import APIRouter

from api.errors import problems
from api.schemas import Job
from api.services import Rooms, Services
from runtime.jobs import protocol

router = APIRouter(prefix="/api/jobs", tags=["jobs"])


async def shown(job: protocol.Job, rooms: Services) -> Job:
    """A job as the API shows it."""
    # A job may be of a model that was served before the server's last start.
    model = rooms.models.by_name.get(job.model, rooms.model)
    return Job.of(job, await asyncio.to_thread(model.warnings, job.request))


@router.get("/{job_id}", responses=problems(404))
async def get_job(job_id: str, rooms: Rooms) -> Job:
    """The job as it is now."""
    return await shown(await rooms.broker.job(job_id), rooms)


@router.delete("/{job_id}", responses=problems(403, 404, 409))
async def cancel_job(job_id: str, rooms: Rooms) -> Job:
    """Cancel a job: at once while it waits, before its next step while it is drawn."""
    return await shown(await rooms.broker.cancel(job_id), rooms)

"""The promises of a server about its jobs, checked against its answers and its files.

Every job that was answered 202 is there and ends; a completed job has exactly one picture, whole,
with its thumbnail and its row; no other job has one; nothing half written stays behind.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.serving import COMPLETED, ENDED, Server

Job = Mapping[str, Any]


def settle(server: Server, accepted: Sequence[str]) -> list[Job]:
    """Wait until all of these jobs have ended; the jobs. Raises ServingError."""
    return list(server.wait_ended(accepted, len(accepted)))


def broken_promises(server: Server, data: Path, jobs: Sequence[Job]) -> list[str]:
    """Every promise about these jobs that is broken; they are all that the server ever had."""
    listed = [image["filename"] for image in _listed(server)]
    pictures = {image["filename"]: job for job in jobs if (image := job["image"])}
    faults = [fault for job in jobs for fault in _faults_of(job)]
    if doubled := len(listed) - len(set(listed)):
        faults.append(f"{doubled} pictures are listed twice")
    faults += _differences("the gallery's list", set(listed), set(pictures))
    for folder in ("images", "thumbs"):
        found = {path.name for path in (data / folder).iterdir()}
        faults += _differences(f"the folder {folder}", found, set(pictures))
    for filename in pictures:
        faults += _unreadable(server, filename)
    return faults


def order_faults(jobs: Sequence[Job]) -> list[str]:
    """Jobs of one kind that were begun before one that was accepted earlier, among those whose
    first attempt was not lost. `jobs` are in the order of their acceptance.
    """
    calm = [job for job in jobs if job["attempt"] == 1 and job["started_at"]]
    return [
        f"{later['job_id']} was begun before {sooner['job_id']}, which came first"
        for sooner, later in pairwise(calm)
        if later["started_at"] < sooner["started_at"]
    ]


def _faults_of(job: Job) -> Iterator[str]:
    name = f"{job['job_id']} ({job['status']})"
    if job["status"] not in ENDED:
        yield f"{name} has not ended"
    if (job["status"] == COMPLETED) is (job["image"] is None):
        yield f"{name}: a picture belongs to a completed job, and to no other"
    if job["status"] == "failed" and not (job["error"] or {}).get("detail"):
        yield f"{name} gives no reason"


def _listed(server: Server) -> Iterator[Mapping[str, Any]]:
    address: str | None = "/api/images?limit=200"
    while address:
        page = server.get(address)
        yield from page["images"]
        cursor = page["next_cursor"]
        address = f"/api/images?limit=200&cursor={cursor}" if cursor else None


def _differences(place: str, found: set[str], wanted: set[str]) -> Iterator[str]:
    if lost := sorted(wanted - found):
        yield f"{place} lacks {len(lost)} pictures, the first {lost[0]}"
    if more := sorted(found - wanted):
        yield f"{place} has {len(more)} that belong to no completed job, the first {more[0]}"


def _unreadable(server: Server, filename: str) -> Iterator[str]:
    for folder in ("images", "thumbs"):
        answer = server.client.get(f"/api/{folder}/{filename}")
        if answer.status_code != 200:
            yield f"/api/{folder}/{filename}: {answer.status_code}"
            continue
        try:
            Image.open(io.BytesIO(answer.content)).load()
        except OSError as error:
            yield f"/api/{folder}/{filename}: {error}"

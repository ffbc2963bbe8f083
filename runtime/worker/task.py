"""A job in a worker, as all of the worker's threads know the job."""

import time
from collections.abc import Mapping
from typing import Any

from runtime.draw.denoise import Sample
from runtime.draw.generate import Generator


class Task:
    """A job that this worker was assigned, until its last report."""

    generator: Generator
    """Draws it; not there before its model is loaded."""

    def __init__(
        self, job_id: str, request: Mapping[str, Any], waited: float, model: str = ""
    ) -> None:
        """`request` is the complete body of the request, as JSON; `waited`: its age in seconds.
        `model` draws it; empty for the worker's first.
        """
        self.model = model
        self.job_id = job_id
        self.request = request
        self.pixels: int = request["width"] * request["height"]
        self.urgent = request["priority"] != "batch"
        """False for batch priority."""
        self.canceled = False
        self.sample: Sample | None = None
        self.drawn = False
        """True once the last step is made: whoever finishes the picture ends the task."""
        self.replaced = False
        """True once the server was told that another job may be assigned in the place of this."""
        self.arrived = time.monotonic() - waited
        self.assigned_at = time.perf_counter()
        self.last_step_at = 0.0
        """Seconds of `perf_counter` at the latest step, or at the admission before any step."""

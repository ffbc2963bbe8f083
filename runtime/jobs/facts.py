"""What is known about the workers and counted about the jobs, for health pages and metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from runtime.plan.served import Served


class WorkerState(StrEnum):
    """Where a worker stands."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    """It cannot start, and will not on another try; `WorkerFacts.error` says why."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """A worker as `/health` shows it."""

    pid: int | None
    state: WorkerState
    device: str | None
    restarts: int
    error: str | None
    """One line: why the last run ended; None while nothing has gone wrong."""
    device_memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes of its device by what they are used for, as it said last; none for a CPU."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the pictures are made with, as `/api/info` shows it."""

    backend: str
    target: str
    device: str
    precision: str
    ready_since: datetime
    note: str
    served: Served


@dataclass(frozen=True, slots=True)
class Counters:
    """Sums since the start of the server, and how things stand now."""

    queued: int
    processing: int
    submitted: int
    ended: Mapping[str, int]
    """Jobs by their final status: completed, failed, canceled."""
    attempts_lost: int
    """Attempts that ended with their worker or their lease."""
    steps: int
    step_seconds: float
    """Time in calls of the step graph, summed over `steps`: a shared call counts for each."""
    job_seconds: float
    """From the lease to the end, summed over completed jobs."""
    previews: int
    conditioning_hits: int
    """Prompts whose conditioning a worker had kept."""
    conditioning_misses: int
    """Prompts that went through the text encoders."""

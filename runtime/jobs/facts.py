"""Facts about the workers and counts of the jobs, for health pages and metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from runtime.jobs.tally import SAMPLES, STAGES, WAITS, Tally
from runtime.plan.served import Served
from runtime.wire.messages import TIMED, TimedStage


class WorkerState(StrEnum):
    """Where a worker stands."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    """The worker cannot start, nor would another; `WorkerFacts.error` says why."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Loads:
    """The loads of a model, since the start of the server."""

    count: int = 0
    seconds: float = 0.0

    def after(self, seconds: float) -> "Loads":
        """With one more, which took so long."""
        return Loads(self.count + 1, self.seconds + seconds)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """A worker as `/health` shows it."""

    pid: int | None
    state: WorkerState
    device: str | None
    restarts: int
    error: str | None
    """One line: the reason why the last process ended; None once the next one is ready."""
    device_memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the worker's device by their use, as in its last heartbeat; empty for a CPU."""
    models: Sequence[str] = ()
    """The models that it has loaded."""
    loads: Mapping[str, Loads] = field(default_factory=dict)
    """By model, its loads beside the one at each start of the worker."""
    evictions: int = 0
    """Models that were given up for the memory of others."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """The engine that draws the pictures, as `/api/info` shows it."""

    backend: str
    target: str
    device: str
    precision: str
    ready_since: datetime
    note: str
    served: Served


@dataclass(slots=True)
class Counters:
    """Numbers of jobs that have not ended, and sums since the start of the server."""

    queued: int = 0
    processing: int = 0
    submitted: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    """Jobs by their final status: completed, failed, canceled."""
    attempts_lost: int = 0
    """Attempts that ended with their worker or their lease."""
    steps: int = 0
    step_seconds: float = 0.0
    """Time since the same job's step before or its admission, summed over `steps`.

    A shared call counts for each job in the call, and the turns of other jobs count too.
    """
    job_seconds: float = 0.0
    """Time from the lease to the end, summed over completed jobs."""
    previews: int = 0
    conditioning_hits: int = 0
    """Prompts whose conditioning a worker had kept."""
    conditioning_misses: int = 0
    """Prompts that went through the text encoders."""
    conditioning_seconds: float = 0.0
    """The time that these took, with the opening of text encoders that are put aside."""
    calls: int = 0
    """Calls of the denoiser that followed another one with no rest between the two."""
    host_seconds: float = 0.0
    """Time from the return of a call to the begin of the next, summed over `calls`."""
    starts: int = 0
    """Calls that ended a rest, in which no picture was there to be drawn."""
    idle_seconds: float = 0.0
    """The parts of these rests in which a worker had a job whose picture was not ready yet."""
    previews_dropped: int = 0
    """Previews that gave way to that of a later step, or to the end of their job."""
    lora_changes: int = 0
    """Changes of the LoRA set on the denoiser."""
    lora_seconds: float = 0.0
    """The time that these took, while no step was made."""
    queue_waits: Tally = field(default_factory=lambda: Tally(WAITS))
    """Seconds from a job's submission to its first lease."""
    first_step_waits: Tally = field(default_factory=lambda: Tally(WAITS))
    """Seconds from a job's submission to the end of its first step."""
    turnarounds: Tally = field(default_factory=lambda: Tally(WAITS))
    """Seconds from a job's submission to its end, of completed jobs."""
    batches: Tally = field(default_factory=lambda: Tally(SAMPLES))
    """Samples of each call of the denoiser."""
    stages: dict[TimedStage, Tally] = field(
        default_factory=lambda: {stage: Tally(STAGES) for stage in TIMED}
    )
    """Seconds of the stages of workers' threads."""

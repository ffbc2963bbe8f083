"""Protocol of a broker's side towards workers: leases of jobs, and the reports about them.

`runtime.jobs.session` speaks with a worker's process and calls this; a broker that has it and
`Broker` is served by the same supervisor, sessions and workers, and has to pass the suite in
`tests/runtime/jobs/conformance`.

A lease belongs to a worker's connection, which has a name of its own, and ends with the job or with
the connection. A report is taken from the holder of the lease alone, so that an attempt which was
given up can change nothing any more.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from runtime.errors import CalotypeError
from runtime.jobs.facts import EngineFacts
from runtime.jobs.protocol import Broker, Image, Job, JobError
from runtime.wire.messages import Paced, Shelved, TimedStage

PASSING = 64
"""The most interactive jobs that are leased before an earlier batch job."""


class StaleLease(CalotypeError):
    """A report about a job whose lease the worker no longer has: the report changes nothing."""

    def __init__(self, job_id: str, holder: str) -> None:
        super().__init__(f"job {job_id} is not leased to {holder}")


class Holder(Protocol):
    """A connected worker, as a broker sees the worker. No method waits."""

    @property
    def name(self) -> str:
        """The name under which leases are held; a new connection has a new name."""
        ...

    @property
    def shelf(self) -> Shelved:
        """The models that the worker holds; empty where it serves one alone."""
        ...

    @property
    def settled(self) -> float:
        """Seconds since these models have changed."""
        ...

    def assign(self, job: Job) -> None:
        """The job has been leased to this worker."""
        ...

    def cancel(self, job_id: str) -> None:
        """The job is to stop."""
        ...

    def wake(self) -> None:
        """There may be jobs to lease."""
        ...


class WorkerSide(Protocol):
    """Leases and reports. Every report raises StaleLease unless the worker has the job's lease."""

    def attach(self, worker: Holder) -> None:
        """Enter a worker that has connected: it is woken when there may be jobs to lease."""
        ...

    def detach(self, worker: Holder) -> None:
        """Tell a worker nothing any more; the caller must `release` the worker's jobs next."""
        ...

    def draws_with(self, engine: EngineFacts) -> None:
        """A worker of this server draws with this engine now; other servers learn it."""
        ...

    def job_of(self, worker: Holder, job_id: str) -> Job:
        """A job that this worker has the lease of. Raises StaleLease."""
        ...

    def holds(self, worker: Holder) -> bool:
        """True while a worker has the lease of a job."""
        ...

    async def lease(self, worker: Holder, count: int) -> int:
        """Lease up to `count` jobs and hand each to `worker.assign`; returns their number.

        Interactive jobs go first, PASSING of them before an earlier batch job. Batch jobs may fill
        all places, and yield them: an interactive job is leased beyond `count` where a batch job
        has a place. `count` is then less than 0 until so many jobs have ended. A job that was lost
        before is leased alone. Jobs are of the models that `affinity.next_models` names.
        """
        ...

    def at_risk(self, worker: Holder, job_id: str, *, begun: bool) -> None:
        """A worker begins to work on a job, or rests from it: its loss is then the job's fault, or
        not. Raises StaleLease.
        """
        ...

    def step(
        self, worker: Holder, job_id: str, step: int, seconds: float, preview: bytes | None
    ) -> None:
        """A job has finished a step; `preview` is a JPEG. Raises StaleLease."""
        ...

    async def complete(self, worker: Holder, picture: Image, warnings: Sequence[str] = ()) -> None:
        """List a picture whose files are on disk, and end its job. Raises StaleLease.

        A job that was canceled meanwhile ends as canceled, and its files are removed.
        """
        ...

    async def put_back(self, worker: Holder, job_id: str, reason: str) -> None:
        """Queue a job again whose picture could not be saved; the attempt is not counted. Raises
        StaleLease.
        """
        ...

    async def fail(self, worker: Holder, job_id: str, error: JobError) -> None:
        """End a job as failed: another attempt would fail as well. Raises StaleLease."""
        ...

    async def canceled(self, worker: Holder, job_id: str) -> None:
        """End a job that the worker has stopped as it was asked to. Raises StaleLease."""
        ...

    async def release(self, worker: Holder, reason: str, *, counted: bool) -> None:
        """End all leases of a worker that is gone; `reason` says why, for people.

        Attempts of a worker that left as it was asked to are not `counted`, and of another those
        of the jobs that it worked on. A job fails with the last of its attempts, if it was alone.
        """
        ...

    def conditioned(self, hits: int, misses: int, seconds: float) -> None:
        """Count conditionings of prompts that a worker had kept, and those that it made."""
        ...

    def paced(self, pace: Paced) -> None:
        """Count the times of a worker's loop."""
        ...

    def timed(self, stages: Mapping[TimedStage, Sequence[float]]) -> None:
        """Count the seconds of a worker's stages."""
        ...


class WorkedBroker(Broker, Protocol):
    """A broker with both of its sides."""

    @property
    def lease_seconds(self) -> float:
        """Seconds for which a silent worker keeps its leases."""
        ...

    @property
    def engine_elsewhere(self) -> EngineFacts | None:
        """The engine of another server's workers; None where none is known."""
        ...

    @property
    def leases(self) -> WorkerSide:
        """The side towards workers."""
        ...


class OpenedBroker(WorkedBroker, Protocol):
    """One that is opened by entering it."""

    async def __aenter__(self) -> Self:
        """Open it. Raises CalotypeError."""
        ...

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        ...

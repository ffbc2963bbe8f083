"""Events and states of the worker's life; `runtime.jobs.lifecycle` says what leads where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from runtime.backends.wishes import BackendWish
from runtime.jobs.facts import EngineFacts, WorkerState
from runtime.wire.messages import Broken, Heartbeat, Shelved, Trial

FIRST_PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Spawned:
    """The worker's process was started."""

    pid: int


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker has loaded the model and run one step."""

    engine: EngineFacts
    shortfalls: Sequence[str]
    """Shortfalls of the engine, such as a role that runs without its CUDA graph, in sentences."""


@dataclass(frozen=True, slots=True)
class ModelLoaded:
    """The worker has loaded another model, in so many seconds."""

    model: str
    engine: EngineFacts
    seconds: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker's process ended or could not be started; `reason` says why, for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class LostToGraph:
    """The worker's process was ended by the first launch of a CUDA graph."""

    reason: str


@dataclass(frozen=True, slots=True)
class CannotStart:
    """The worker's process ended before it was ready, and another start would end the same way."""

    reason: str


@dataclass(frozen=True, slots=True)
class PauseOver:
    """The pause before the next start has passed."""


@dataclass(frozen=True, slots=True)
class Renew:
    """The worker is to be replaced by one that draws with `backend`."""

    backend: BackendWish


@dataclass(frozen=True, slots=True)
class Stop:
    """The server stops."""


Heard = Heartbeat | Trial | Broken | Shelved
Loss = Lost | LostToGraph | CannotStart
Event = Spawned | WorkerReady | ModelLoaded | Heard | Loss | PauseOver | Renew | Stop


@dataclass(frozen=True, slots=True)
class Run:
    """Facts about a worker process; the defaults hold before a process was started."""

    pid: int | None = None
    device: str | None = None
    """Known once the worker is ready."""
    device_memory: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the device by what they are used for, as in the last heartbeat."""
    trials: tuple[str, ...] = ()
    """Roles whose new CUDA graphs are being launched for the first time."""
    models: Sequence[str] | None = None
    """The models that the worker has loaded, once it has named them."""
    broken: Broken | None = None
    """The worker's own account of why it has to exit."""

    def heard(self, news: Heard) -> "Run":
        """The same process after a message of its worker.

        Raises ValueError for the end of a trial that never began.
        """
        match news:
            case Heartbeat():
                return replace(self, device_memory=news.device_memory)
            case Trial(role, over=True):
                index = self.trials.index(role)
                return replace(self, trials=self.trials[:index] + self.trials[index + 1 :])
            case Trial(role):
                return replace(self, trials=(*self.trials, role))
            case Shelved(loaded):
                return replace(self, models=loaded)
            case Broken():
                return replace(self, broken=news)

    def lost(self, reason: str) -> Loss:
        """The loss of this process, for the reason that the worker gave itself if it gave one.

        A CUDA graph is blamed where the worker said so, and where the worker ended without a word
        during the first launch of a CUDA graph.
        """
        if self.broken is None:
            return LostToGraph(reason) if self.trials else Lost(reason)
        if self.broken.of_graph:
            return LostToGraph(self.broken.detail)
        return (CannotStart if self.broken.lasting else Lost)(self.broken.detail)


@dataclass(frozen=True, slots=True)
class Setup:
    """Options with which a worker is started."""

    backend: BackendWish
    why_no_graphs: str = ""
    """Reason to capture no CUDA graphs, whatever the settings say; empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Working:
    """A state with a worker process, or with one that is about to start or has ended."""

    shown: ClassVar = WorkerState.STARTING
    """The state as the API names it."""
    setup: Setup
    run: Run = field(default_factory=Run)

    def setup_after(self, loss: Loss) -> Setup:
        """The next worker's setup: without CUDA graphs where one of them ended this worker."""
        if not isinstance(loss, LostToGraph):
            return self.setup
        of = f" of {' and '.join(self.run.trials)}" if self.run.trials else ""
        why = f"no CUDA graphs are used, since a worker was lost when it launched a new one{of}"
        return replace(self.setup, why_no_graphs=f"{why}: {loss.reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start(_Working):
    """A worker starts: its process, then its model."""

    pause: float = FIRST_PAUSE
    """Seconds of the latest pause before this start; the next pause is up to twice as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStart(_Start):
    """No worker was ever ready: where this one cannot start, there is nothing to serve with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakingOver(_Start):
    """The worker is to take the place of one that served."""

    fallback: Setup
    """The setup of the one that served: its turn again where this worker cannot be made ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarting(_Start):
    """A worker with this setup has been ready before: it is tried until it is ready again."""


Start = FirstStart | TakingOver | Restarting


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving(_Working):
    """The worker is ready and takes jobs."""

    shown: ClassVar = WorkerState.READY
    backend: BackendWish
    """The backend that draws; the setup may leave the choice to the worker ("auto")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewing(_Working):
    """The worker finishes the jobs that it has begun, and then ends."""

    shown: ClassVar = WorkerState.READY
    successor: TakingOver


@dataclass(frozen=True, slots=True)
class Pausing:
    """A worker was lost; the next one starts after a pause."""

    shown: ClassVar = WorkerState.STARTING
    then: Start

    @property
    def seconds(self) -> float:
        """The length of the pause."""
        return self.then.pause

    @property
    def setup(self) -> Setup:
        """The next worker's setup."""
        return self.then.setup

    @property
    def run(self) -> Run:
        """A Run without a process."""
        return self.then.run


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(_Working):
    """No worker can start, and another try would end the same way."""

    shown: ClassVar = WorkerState.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(_Working):
    """The server stops: no worker is started any more, and one that runs is ending."""

    shown: ClassVar = WorkerState.STOPPED


State = Start | Serving | Renewing | Pausing | Failed | Stopped

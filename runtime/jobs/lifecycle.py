"""The worker's life as a state machine: pure, without a process, a socket or a clock.

A state says what the supervisor does while the worker is in it; an event is a report of the
supervisor or of the worker, or a wish of the caller. `TABLE` says what leads where:

    state       supervisor           event                next state
    ----------  -------------------  -------------------  ------------------------------
    FirstStart  runs a worker        WorkerReady          Serving
                                     CannotStart          Failed
                                     Lost, LostToGraph    Pausing, then FirstStart
    TakingOver  runs a worker        WorkerReady          Serving
                                     LostToGraph          Pausing, then TakingOver
                                     Lost, CannotStart    Restarting with the fallback
    Restarting  runs a worker        WorkerReady          Serving
                                     any loss             Pausing, then Restarting
    Serving     runs a worker        Renew                Renewing
                                     any loss             Pausing, then Restarting
    Renewing    drains and ends it   Renew                Renewing, for another successor
                                     any loss             TakingOver
    Pausing     waits                PauseOver            the start that it precedes
    Failed      does nothing
    Stopped     ends what still runs any loss             Stopped
    all         as above             Stop                 Stopped

`Spawned`, `Heartbeat`, `Trial` and `Broken` change the `Run` of a state, its process, and no state.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from runtime.backends.catalog import WISHES, BackendWish
from runtime.jobs.facts import EngineFacts, WorkerFacts, WorkerState
from runtime.wire.messages import Broken, Heartbeat, Trial

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


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


Heard = Heartbeat | Trial | Broken
Loss = Lost | LostToGraph | CannotStart
Event = Spawned | WorkerReady | Heard | Loss | PauseOver | Renew | Stop


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
            case Broken():
                return replace(self, broken=news)

    def lost(self, reason: str) -> Loss:
        """The loss of this process, for the reason that the worker gave itself if it gave one.

        A CUDA graph is blamed where the worker said so, and where nothing was heard of the worker
        any more when it launched one for the first time.
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
    """Seconds of the latest pause before it."""


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
        """No process."""
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


def _spawn(state: Start | Stopped, event: Spawned) -> State:
    return replace(state, run=Run(event.pid))


def _hear(state: Start | Serving | Renewing | Stopped, news: Heard) -> State:
    return replace(state, run=state.run.heard(news))


def _serve(start: Start, event: WorkerReady) -> State:
    backend = next(wish for wish in WISHES if wish == event.engine.backend)
    run = replace(start.run, device=event.engine.device)
    return Serving(setup=start.setup, run=run, backend=backend)


def _fail(start: FirstStart, _: CannotStart) -> State:
    return Failed(setup=start.setup)


def _try_again(start: Start, loss: Loss) -> State:
    pause = min(2 * start.pause, LONGEST_PAUSE)
    return Pausing(replace(start, setup=start.setup_after(loss), pause=pause, run=Run()))


def _go_back(start: TakingOver, _: Loss) -> State:
    return Restarting(setup=start.fallback, pause=start.pause)


def _restart(serving: Serving, loss: Loss) -> State:
    return Pausing(Restarting(setup=serving.setup_after(loss)))


def _renew(serving: Serving, event: Renew) -> State:
    fallback = replace(serving.setup, backend=serving.backend)
    successor = TakingOver(setup=Setup(event.backend), fallback=fallback)
    return Renewing(setup=serving.setup, run=serving.run, successor=successor)


def _renew_otherwise(renewing: Renewing, event: Renew) -> State:
    return replace(renewing, successor=replace(renewing.successor, setup=Setup(event.backend)))


def _succeed(renewing: Renewing, _: Loss) -> State:
    return renewing.successor


def _begin(pausing: Pausing, _: PauseOver) -> State:
    return pausing.then


def _stop(state: State, _: Stop) -> State:
    return Stopped(setup=state.setup, run=state.run)


def _stay(state: State, _: Event) -> State:
    return state


def _end(stopped: Stopped, _: Loss) -> State:
    return replace(stopped, run=Run())


Rule = Callable[[Any, Any], State]

_ALIVE: Mapping[type[Event], Rule] = {Heartbeat: _hear, Trial: _hear, Broken: _hear, Stop: _stop}
_STARTED: Mapping[type[Event], Rule] = {**_ALIVE, Spawned: _spawn, WorkerReady: _serve}
_LOSSES = (Lost, LostToGraph, CannotStart)

TABLE: Mapping[type[State], Mapping[type[Event], Rule]] = {
    FirstStart: {**_STARTED, Lost: _try_again, LostToGraph: _try_again, CannotStart: _fail},
    TakingOver: {**_STARTED, Lost: _go_back, LostToGraph: _try_again, CannotStart: _go_back},
    Restarting: {**_STARTED, **dict.fromkeys(_LOSSES, _try_again)},
    Serving: {**_ALIVE, Renew: _renew, **dict.fromkeys(_LOSSES, _restart)},
    Renewing: {**_ALIVE, Renew: _renew_otherwise, **dict.fromkeys(_LOSSES, _succeed)},
    Pausing: {PauseOver: _begin, Stop: _stop},
    Failed: {Stop: _stop},
    Stopped: {
        **_STARTED,
        WorkerReady: _stay,
        PauseOver: _stay,
        **dict.fromkeys(_LOSSES, _end),
    },
}
"""For each state the events that may come in it, and how the next state follows."""


def following(state: State, event: Event) -> State:
    """The state after an event. Raises ValueError for an event that cannot come in this state."""
    rule = TABLE[type(state)].get(type(event))
    if rule is None:
        raise ValueError(f"{type(event).__name__} cannot come in the state {type(state).__name__}")
    return rule(state, event)


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The state of the worker, and the facts that outlive one worker."""

    state: State
    restarts: int = 0
    error: str | None = None
    """The reason why the last process ended; None once the next worker is ready."""
    last_engine: EngineFacts | None = None
    """The engine of the last worker that was ready."""
    shortfalls: Sequence[str] = ()
    """Shortfalls of that engine, as its worker named them last."""
    told: str = ""
    """Another sentence for the engine's note."""

    @property
    def ready(self) -> bool:
        """True while the worker is ready."""
        return self.state.shown is WorkerState.READY

    @property
    def worker(self) -> WorkerFacts:
        """The worker as `/health` and `/metrics` show it."""
        run = self.state.run
        return WorkerFacts(
            run.pid, self.state.shown, run.device, self.restarts, self.error, run.device_memory
        )

    @property
    def engine(self) -> EngineFacts | None:
        """The engine as `/api/info` shows it; None until a worker was ready."""
        if self.last_engine is None:
            return None
        why_no_graphs = self.state.setup.why_no_graphs
        said = (self.last_engine.note, *self.shortfalls, why_no_graphs, self.told)
        return replace(self.last_engine, note="; ".join(filter(None, said)))

    def lost(self, reason: str) -> "Lifecycle":
        """The life after its process ended, or could not be started, for this reason."""
        loss = self.state.run.lost(reason)
        life = replace(self.after(loss), error=loss.reason)
        if isinstance(life.state, Pausing):
            return replace(life, restarts=self.restarts + 1)
        if isinstance(self.state, TakingOver):
            wish = self.state.setup.backend
            return replace(life, told=f"{wish} was to take over and could not: {loss.reason}")
        return life

    def after(self, event: Event) -> "Lifecycle":
        """The life after any other event."""
        life = replace(self, state=following(self.state, event))
        match event:
            case WorkerReady(engine, shortfalls) if life.ready:
                return replace(life, error=None, last_engine=engine, shortfalls=shortfalls)
            case Heartbeat(shortfalls=shortfalls) if life.ready:
                return replace(life, shortfalls=shortfalls)
        return life

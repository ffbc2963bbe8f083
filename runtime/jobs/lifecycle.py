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

`Spawned`, `Heartbeat`, `Trial`, `Shelved` and `Broken` leave the state and change only its `Run`,
the facts about the process; `ModelLoaded` leaves both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.backends.wishes import WISHES
from runtime.jobs.facts import EngineFacts, Loads, WorkerFacts, WorkerState
from runtime.jobs.states import (
    CannotStart,
    Event,
    Failed,
    FirstStart,
    Heard,
    Loss,
    Lost,
    LostToGraph,
    ModelLoaded,
    PauseOver,
    Pausing,
    Renew,
    Renewing,
    Restarting,
    Run,
    Serving,
    Setup,
    Spawned,
    Start,
    State,
    Stop,
    Stopped,
    TakingOver,
    WorkerReady,
)
from runtime.wire.messages import Broken, Heartbeat, Shelved, Trial

LONGEST_PAUSE = 30.0


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

_ALIVE: Mapping[type[Event], Rule] = {
    **dict.fromkeys((Heartbeat, Trial, Broken, Shelved), _hear),
    ModelLoaded: _stay,
    Stop: _stop,
}
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
    others: Mapping[str, EngineFacts] = field(default_factory=dict)
    """The engines of the other models, as they were loaded last."""
    loads: Mapping[str, Loads] = field(default_factory=dict)
    evictions: int = 0

    @property
    def ready(self) -> bool:
        """True while the worker is ready."""
        return self.state.shown is WorkerState.READY

    @property
    def worker(self) -> WorkerFacts:
        """The worker as `/health` and `/metrics` show it."""
        run = self.state.run
        return WorkerFacts(
            run.pid,
            self.state.shown,
            run.device,
            self.restarts,
            self.error,
            run.device_memory,
            run.models or (),
            self.loads,
            self.evictions,
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
        """The life after an event; for a loss, callers use `lost`."""
        life = replace(self, state=following(self.state, event))
        match event:
            case WorkerReady(engine, shortfalls) if life.ready:
                return replace(life, error=None, last_engine=engine, shortfalls=shortfalls)
            case ModelLoaded(model, engine, seconds):
                loads = self.loads.get(model, Loads()).after(seconds)
                return replace(
                    life,
                    others={**self.others, model: engine},
                    loads={**self.loads, model: loads},
                )
            case Shelved(evicted=evicted):
                return replace(life, evictions=self.evictions + evicted)
            case Heartbeat(shortfalls=shortfalls) if life.ready:
                return replace(life, shortfalls=shortfalls)
        return life

"""The worker's life: every state with every event, and the facts that are carried along."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from runtime.jobs.facts import EngineFacts, Loads, WorkerState
from runtime.jobs.lifecycle import LONGEST_PAUSE, TABLE, Lifecycle, following
from runtime.jobs.states import (
    FIRST_PAUSE,
    CannotStart,
    Event,
    Failed,
    FirstStart,
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
    State,
    Stop,
    Stopped,
    TakingOver,
    WorkerReady,
)
from runtime.plan.served import BatchLimits, Served
from runtime.wire.messages import Broken, Heartbeat, Shelved, Trial

CPU = Setup("onnxruntime-cpu", why_no_graphs="the CPU's reason")
GPU = Setup("tensorrt-rtx")
RUN = Run(pid=7, device="Imagined GPU")
ENGINE = EngineFacts(
    backend="tensorrt-rtx",
    target="the target",
    device="Imagined GPU",
    precision="fp16",
    ready_since=datetime(2026, 1, 1, tzinfo=UTC),
    note="chosen",
    served=Served(BatchLimits(1, 2)),
)
READY = WorkerReady(ENGINE, ["one shortfall"])
TAKING_OVER = TakingOver(setup=GPU, fallback=CPU, run=RUN)

STATES: dict[str, State] = {
    "first": FirstStart(setup=GPU, run=RUN),
    "over": TAKING_OVER,
    "again": Restarting(setup=GPU, run=RUN),
    "serve": Serving(setup=GPU, run=RUN, backend="tensorrt-rtx"),
    "renew": Renewing(setup=CPU, run=RUN, successor=replace(TAKING_OVER, run=Run())),
    "pause": Pausing(Restarting(setup=GPU)),
    "fail": Failed(setup=GPU),
    "stop": Stopped(setup=GPU, run=RUN),
}
EVENTS: dict[str, Event] = {
    "Spawned": Spawned(8),
    "WorkerReady": READY,
    "Heartbeat": Heartbeat({"weights": 1}, ["another shortfall"]),
    "Trial": Trial("denoiser", over=False),
    "Broken": Broken("no memory", lasting=False),
    "Shelved": Shelved(["first", "other"], evicted=2),
    "ModelLoaded": ModelLoaded("other", ENGINE, 1.5),
    "Lost": Lost("killed"),
    "LostToGraph": LostToGraph("killed"),
    "CannotStart": CannotStart("damaged"),
    "PauseOver": PauseOver(),
    "Renew": Renew("tensorrt"),
    "Stop": Stop(),
}
EXPECTED = """
             first    over     again    serve    renew   pause  fail  stop
Spawned      first    over     again    -        -       -      -     stop
WorkerReady  serve    serve    serve    -        -       -      -     stop
Heartbeat    first    over     again    serve    renew   -      -     stop
Trial        first    over     again    serve    renew   -      -     stop
Broken       first    over     again    serve    renew   -      -     stop
Shelved      first    over     again    serve    renew   -      -     stop
ModelLoaded  first    over     again    serve    renew   -      -     stop
Lost         p/first  again    p/again  p/again  over    -      -     stop
LostToGraph  p/first  p/over   p/again  p/again  over    -      -     stop
CannotStart  fail     again    p/again  p/again  over    -      -     stop
PauseOver    -        -        -        -        -       again  -     stop
Renew        -        -        -        renew    renew   -      -     -
Stop         stop     stop     stop     stop     stop    stop   stop  stop
"""
HEADER, *ROWS = (line.split() for line in EXPECTED.strip().splitlines())
CELLS = [(state, row[0], cell) for row in ROWS for state, cell in zip(HEADER, row[1:], strict=True)]


def name_of(state: State) -> str:
    if isinstance(state, Pausing):
        return f"p/{name_of(state.then)}"
    return next(name for name, each in STATES.items() if type(each) is type(state))


@pytest.mark.parametrize(("state", "event", "cell"), CELLS)
def test_every_event_in_every_state(state: str, event: str, cell: str) -> None:
    if cell == "-":
        with pytest.raises(ValueError, match="cannot come in the state"):
            following(STATES[state], EVENTS[event])
    else:
        assert name_of(following(STATES[state], EVENTS[event])) == cell


def test_the_cells_are_all_that_there_are() -> None:
    assert {type(state) for state in STATES.values()} == set(TABLE)
    known = {event for rules in TABLE.values() for event in rules}
    assert {type(event) for event in EVENTS.values()} == known
    assert [state for state, _, _ in CELLS[: len(STATES)]] == list(STATES)
    assert [row[0] for row in ROWS] == list(EVENTS)


@pytest.mark.parametrize(
    ("run", "loss"),
    [
        (Run(), Lost("gone")),
        (Run(trials=("denoiser",)), LostToGraph("gone")),
        (Run(broken=Broken("no memory", lasting=False)), Lost("no memory")),
        (Run(broken=Broken("damaged", lasting=True)), CannotStart("damaged")),
        (Run(broken=Broken("a graph", lasting=False, of_graph=True)), LostToGraph("a graph")),
        (Run(trials=("x",), broken=Broken("no memory", lasting=False)), Lost("no memory")),
    ],
)
def test_a_loss_is_what_was_heard_of_the_process(run: Run, loss: Event) -> None:
    assert run.lost("gone") == loss


def test_a_trial_that_is_over_is_forgotten_and_others_stay() -> None:
    run = Run()
    for role, over in [("a", False), ("b", False), ("a", False), ("a", True)]:
        run = run.heard(Trial(role, over))
    assert run.trials == ("b", "a")


def test_pauses_double_up_to_a_limit_and_a_ready_worker_ends_that() -> None:
    state: State = FirstStart(setup=GPU)
    pauses = []
    for _ in range(8):
        state = following(state, Lost("killed"))
        assert isinstance(state, Pausing)
        pauses.append(state.seconds)
        state = following(state, PauseOver())
    assert pauses == [1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    paused = following(following(state, READY), Lost("killed"))
    assert isinstance(paused, Pausing)
    assert paused.seconds == FIRST_PAUSE


def test_a_start_after_a_loss_knows_nothing_of_the_lost_process() -> None:
    for name in ("first", "again", "serve"):
        assert following(STATES[name], Lost("killed")).run == Run()
    assert following(STATES["stop"], Lost("killed")).run == Run()
    assert following(STATES["first"], Spawned(8)).run == Run(pid=8)


@pytest.mark.parametrize("name", ["first", "over", "again", "serve"])
def test_a_graph_that_ended_the_worker_is_told_and_none_is_made_again(name: str) -> None:
    state = following(STATES[name], Trial("text_encoder", over=False))
    state = following(state, Trial("denoiser", over=False))
    told = (
        "no CUDA graphs are used, since a worker was lost when it launched a new one of "
        "text_encoder and denoiser: killed"
    )
    assert following(state, LostToGraph("killed")).setup == replace(GPU, why_no_graphs=told)
    assert (
        following(state, Lost("killed")).setup.why_no_graphs
        == (CPU if name == "over" else GPU).why_no_graphs
    )


def test_a_renewed_worker_has_the_one_that_served_to_fall_back_on() -> None:
    """By the backend that drew, where the choice of it had been left to the worker."""
    serving = Serving(setup=Setup("auto", "why"), run=RUN, backend="onnxruntime-cpu")
    renewing = following(following(serving, Renew("tensorrt")), Renew("tensorrt-rtx"))
    assert (renewing.setup, renewing.run) == (serving.setup, RUN)
    over = following(renewing, LostToGraph("it ended as it was asked to"))
    fallback = Setup("onnxruntime-cpu", "why")
    assert over == TakingOver(setup=Setup("tensorrt-rtx"), fallback=fallback)
    assert following(over, CannotStart("damaged")) == Restarting(setup=fallback)


def test_a_loss_counts_as_a_restart_where_the_next_start_waits() -> None:
    counted = {
        name: Lifecycle(state).lost("killed").restarts
        for name, state in STATES.items()
        if name not in ("pause", "fail")
    }
    assert counted == {"first": 1, "over": 0, "again": 1, "serve": 1, "renew": 0, "stop": 0}


def test_the_error_is_the_workers_own_word_until_another_is_ready() -> None:
    life = Lifecycle(STATES["serve"]).after(Broken("no memory", lasting=False)).lost("gone")
    assert life.worker.error == "no memory"
    life = life.after(PauseOver()).after(Spawned(8))
    assert (life.worker.pid, life.worker.error, life.worker.state) == (8, "no memory", "starting")
    life = life.after(READY)
    assert (life.worker.device, life.worker.error) == ("Imagined GPU", None)


def test_going_back_is_told_with_the_engine() -> None:
    life = Lifecycle(FirstStart(setup=Setup("auto"))).after(READY).after(Renew("tensorrt"))
    life = replace(life.lost("it ended as it was asked to"), told="compiling")
    life = life.after(Broken("no room", lasting=True)).lost("gone")
    assert life.told == "tensorrt was to take over and could not: no room"
    assert life.state.setup == GPU


def test_the_engine_is_the_last_ready_workers_with_all_that_is_to_be_said() -> None:
    life = Lifecycle(FirstStart(setup=GPU))
    assert life.engine is None
    life = replace(life.after(READY), told="compiling")
    assert life.engine == replace(ENGINE, note="chosen; one shortfall; compiling")
    life = life.after(EVENTS["Heartbeat"]).after(Trial("denoiser", over=False)).lost("gone")
    assert life.worker.device_memory == {}
    assert life.engine is not None
    assert life.engine.note == (
        f"chosen; another shortfall; {life.state.setup.why_no_graphs}; compiling"
    )
    starting = life.after(PauseOver()).after(Heartbeat({"weights": 1}, ["not ready yet"]))
    assert starting.engine == life.engine
    assert starting.worker.device_memory == {"weights": 1}


def test_a_worker_that_becomes_ready_after_the_stop_serves_nothing() -> None:
    life = Lifecycle(STATES["first"]).after(Stop()).after(READY)
    assert (life.engine, life.ready) == (None, False)


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["first", "over", "again", "pause"], WorkerState.STARTING),
        (["serve", "renew"], WorkerState.READY),
        (["fail"], WorkerState.FAILED),
        (["stop"], WorkerState.STOPPED),
    ],
)
def test_health_shows_the_state(names: list[str], shown: WorkerState) -> None:
    for name in names:
        life = Lifecycle(STATES[name])
        assert life.worker.state is shown
        assert life.ready is (shown is WorkerState.READY)


def test_the_models_of_a_worker_go_with_it_and_the_sums_of_their_loads_stay() -> None:
    life = Lifecycle(STATES["serve"], last_engine=ENGINE)
    other = replace(ENGINE, target="another")
    for event in (ModelLoaded("other", other, 1.5), EVENTS["Shelved"], EVENTS["ModelLoaded"]):
        life = life.after(event)
    assert life.worker.models == ["first", "other"]
    assert life.others == {"other": ENGINE}
    lost = life.lost("killed").worker
    assert (lost.models, lost.evictions) == ((), 2)
    assert lost.loads == {"other": Loads(2, 3.0)}

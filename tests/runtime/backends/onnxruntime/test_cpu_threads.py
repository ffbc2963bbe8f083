"""The number of threads of the steps on a CPU: chosen by times, and without any effect on bits."""

import logging
from collections.abc import Mapping
from threading import Event

import numpy as np
import pytest

from runtime.backends.low_rank import Weights
from runtime.backends.onnxruntime.cpu import OnnxEngine
from runtime.backends.onnxruntime.cpu_threads import (
    KINDS,
    LONGEST,
    PRICE,
    STALE,
    TRIES,
    ChoosingEngine,
    ThreadChoice,
)
from runtime.backends.protocol import Array, Started
from runtime.draw.cpu_trial import Call, recorded
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage
from runtime.plan.model import Model, open_model
from tests.places import ENGINES

KIND = ((1, 4, 8, 8),)
OTHER = ((1, 4, 16, 16),)
ALL = {8: "", 4: "", 2: "", 1: ""}


def settled(choice: ThreadChoice, seconds: Mapping[int, float], calls: int = 100) -> int:
    """The number of threads after so many calls, which take so long by number of threads."""
    for _ in range(calls):
        threads = choice.threads(KIND, ALL)
        choice.took(KIND, threads, seconds[threads])
    return choice.threads(KIND, ALL)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({8: 0.010, 4: 0.010, 2: 0.010, 1: 0.010}, 1),
        ({8: 0.010, 4: 0.010, 2: 0.010, 1: 0.020}, 2),
        ({8: 0.010, 4: 0.010 * PRICE * 0.99, 2: 0.030, 1: 0.001}, 4),
        ({8: 0.010, 4: 0.010 * PRICE * 1.01, 2: 0.010, 1: 0.010}, 8),
        ({8: LONGEST * 1.01, 4: 0.001, 2: 0.001, 1: 0.001}, 8),
    ],
)
def test_threads_are_halved_as_long_as_that_costs_little(
    seconds: dict[int, float], expected: int
) -> None:
    assert settled(ThreadChoice(8), seconds) == expected


def test_a_kind_of_call_has_a_number_of_its_own() -> None:
    choice = ThreadChoice(2)
    assert settled(choice, {2: 0.01, 1: 0.01}) == 1
    assert choice.threads(OTHER, ALL) == 2


def test_one_thread_is_never_halved() -> None:
    choice = ThreadChoice(1)
    assert settled(choice, {1: 0.01}) == 1
    assert choice.wanted(KIND) == 0


def test_no_other_engine_is_wanted_for_a_few_calls() -> None:
    choice = ThreadChoice(2)
    wanted = []
    for _ in range(TRIES):
        wanted.append(choice.wanted(KIND))
        choice.took(KIND, choice.threads(KIND, [2]), 0.01)
    assert wanted == [0] * TRIES
    assert choice.wanted(KIND) == 1


def test_calls_before_there_is_an_engine_for_fewer_threads_decide_nothing() -> None:
    """Another program took the cores meanwhile: fewer threads only seem to be faster."""
    choice = ThreadChoice(2)
    for _ in range(5 * TRIES):
        assert choice.threads(KIND, [2]) == 2
        choice.took(KIND, 2, 0.09)
    assert settled(choice, {2: 0.01, 1: 0.02}, calls=4 * TRIES) == 2


def test_a_call_that_another_program_held_up_ends_no_trial() -> None:
    choice = ThreadChoice(2)
    choice.took(KIND, choice.threads(KIND, ALL), 10 * LONGEST)
    assert settled(choice, {2: 0.01, 1: 0.01}) == 1


def test_long_calls_keep_all_threads_though_there_is_an_engine_of_fewer() -> None:
    choice = ThreadChoice(2)
    for _ in range(3 * TRIES):
        assert choice.threads(KIND, ALL) == 2
        choice.took(KIND, 2, 1.01 * LONGEST)


def test_the_kinds_that_are_remembered_are_bounded() -> None:
    choice = ThreadChoice(2)
    assert settled(choice, {2: 0.01, 1: 0.01}) == 1
    for size in range(KINDS - 1):
        choice.took(((size,),), 2, 0.01)
    assert choice.threads(KIND, ALL) == 1
    choice.took(((KINDS,),), 2, 0.01)
    assert choice.threads(KIND, ALL) == 2


def test_the_choice_is_made_anew_after_many_calls() -> None:
    choice = ThreadChoice(2)
    assert settled(choice, {2: 0.01, 1: 0.01}) == 1
    assert settled(choice, {2: 0.01, 1: 0.02}, calls=STALE) == 2


class Fake:
    """An engine that answers with its number of threads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.weights: Weights = {}
        self.closed = False

    def start(self, inputs: Mapping[str, Array]) -> Started:
        outputs = self.run(inputs)
        return lambda: outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert "x" in inputs
        return {"threads": np.array(self._threads)}

    def replace_weights(self, weights: Weights) -> None:
        self.weights = weights

    def close(self) -> None:
        self.closed = True


def test_an_engine_that_cannot_be_opened_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    opened = Event()

    def open_engine(threads: int) -> Fake:
        if threads == 2:
            return Fake(threads)
        opened.set()
        raise BackendError("no memory")

    engine = ChoosingEngine(open_engine, 2)
    with caplog.at_level(logging.WARNING):
        for _ in range(TRIES):
            engine.run({"x": np.zeros(3)})
        assert opened.wait(60)
        while "no memory" not in caplog.text:
            assert engine.run({"x": np.zeros(3)})["threads"] == 2
    assert "no engine of 1 threads: no memory" in caplog.text
    assert all(engine.run({"x": np.zeros(3)})["threads"] == 2 for _ in range(4 * TRIES))
    engine.close()


def test_engines_of_fewer_threads_are_opened_beside_the_calls_and_closed_with_the_rest() -> None:
    made: dict[int, Fake] = {}

    def open_engine(threads: int) -> Fake:
        made[threads] = Fake(threads)
        return made[threads]

    engine = ChoosingEngine(open_engine, 4)
    assert list(made) == [4]
    inputs = {"x": np.zeros(3)}
    while engine.run(inputs)["threads"] != 2:
        pass
    engine.replace_weights({"a": np.zeros(1)})  # type: ignore[dict-item]
    assert {int(engine.run(inputs)["threads"]) for _ in range(4 * TRIES)} == {4}
    engine.replace_weights({})
    while engine.run(inputs)["threads"] != 2:
        pass
    engine.close()
    assert made[4].closed
    assert made[2].closed


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(ENGINES, "demo")


@pytest.fixture(scope="module")
def call(model: Model) -> Call:
    """A call of the demo's step graph."""
    return recorded(model)["denoiser"][-1]


@pytest.fixture(scope="module")
def package(model: Model) -> ModelPackage:
    return model.package


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_the_number_of_threads_changes_no_bit(
    package: ModelPackage, call: Call, threads: int
) -> None:
    alone, together = (
        OnnxEngine(package, "denoiser", each).run(call.inputs) for each in (1, threads)
    )
    for name, expected in alone.items():
        np.testing.assert_array_equal(together[name], expected)


def test_steps_of_a_picture_are_the_same_with_whatever_threads_they_are_drawn(
    package: ModelPackage, call: Call
) -> None:
    engine = ChoosingEngine(lambda threads: OnnxEngine(package, "denoiser", threads), 2)
    for _ in range(3 * TRIES):
        found = engine.run(call.inputs)
        for name, expected in call.outputs.items():
            np.testing.assert_array_equal(found[name], expected)
    engine.close()

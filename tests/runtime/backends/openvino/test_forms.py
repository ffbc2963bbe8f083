"""The forms of a graph: the choice of the one that runs a call, and the compiling of others."""

from collections.abc import Callable
from concurrent.futures import Executor, Future

import numpy as np
import pytest

from runtime.backends.openvino import forms as module
from runtime.backends.openvino.forms import CODE, ROOM, Forms, most_single
from runtime.backends.openvino.library import Shapes
from runtime.errors import BackendError

Inputs = dict[str, np.ndarray]


class Clock:
    """Time goes on by a second for a compilation, and by the tenth of one for a call."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Made:
    """A form that answers with the shapes that it is for."""

    def __init__(self, shapes: Shapes | None, clock: Clock) -> None:
        self.shapes = shapes
        self._clock = clock

    def run(self, _inputs: Inputs, weights: dict[str, object]) -> dict[str, object]:
        self._clock.now += 0.1
        return {"form": self.shapes, **weights}


class Beside(Executor):
    """An executor whose work is done when a test says so, or when somebody waits for it."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def submit(self, work, /, *arguments):  # type: ignore[no-untyped-def,override]
        executor = self

        class Waited(Future):  # type: ignore[type-arg]
            def result(self, timeout: float | None = None) -> object:
                executor.finish()
                return super().result(timeout)

        future = Waited()

        def run() -> None:
            try:
                future.set_result(work(*arguments))
            except BackendError as error:
                future.set_exception(error)

        self.waiting.append(run)
        return future

    def finish(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class Stage:
    def __init__(self, most: int, *, ahead: bool = True) -> None:
        self.clock, self.beside = Clock(), Beside()
        self.compiled: list[Shapes | None] = []
        self.failing = False
        self.forms = Forms(self.compile, self.beside, most, ahead=ahead)

    def compile(self, shapes: Shapes | None) -> Made:
        if self.failing:
            raise BackendError("out of memory")
        self.clock.now += 1.0
        self.compiled.append(shapes)
        return Made(shapes, self.clock)

    def run(self, width: int, times: int = 1) -> Shapes | None:
        for _ in range(times):
            found = self.forms.run({"x": np.zeros((1, width))}, {})
        return found["form"]  # type: ignore[return-value]


def of(width: int) -> Shapes:
    return (("x", (1, width)),)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stage]:
    def make(most: int, *, ahead: bool = True) -> Stage:
        made = Stage(most, ahead=ahead)
        monkeypatch.setattr(module, "perf_counter", made.clock)
        return made

    return make


def test_the_first_shape_has_its_form_and_the_others_that_for_any(
    stage: Callable[..., Stage],
) -> None:
    on = stage(2)
    assert on.compiled == []
    assert on.run(16) == of(16)
    assert on.compiled == [of(16)]  # the form for any shape waits beside
    assert len(on.beside.waiting) == 1
    assert on.run(24) is None
    assert on.run(16) == of(16)
    assert on.compiled == [of(16), None]


def test_a_graph_that_is_not_prepared_ahead_compiles_for_any_shape_when_one_comes(
    stage: Callable[..., Stage],
) -> None:
    on = stage(2, ahead=False)
    on.run(16, times=3)
    assert on.beside.waiting == []
    assert on.run(24) is None


def test_a_shape_has_its_form_once_its_calls_took_as_long_as_a_compilation(
    stage: Callable[..., Stage],
) -> None:
    on = stage(2)
    on.run(16)
    on.run(24, times=9)
    assert on.beside.waiting == []
    assert on.run(24) is None  # the tenth: a second has been spent
    assert on.run(24) is None  # calls go on beside the compilation
    on.beside.finish()
    assert on.run(24) == of(24)
    assert on.compiled == [of(16), None, of(24)]


def test_the_form_used_longest_ago_goes(stage: Callable[..., Stage]) -> None:
    on = stage(2)
    on.run(16)
    on.run(24, times=11)
    on.beside.finish()
    on.run(16)
    on.run(32, times=11)
    assert on.forms.shapes == [of(16), of(32)]
    on.beside.finish()
    assert on.run(32) == of(32)
    assert on.run(24) is None


def test_without_room_one_form_is_for_all_shapes(stage: Callable[..., Stage]) -> None:
    on = stage(0)
    assert on.compiled == [None]
    assert on.run(16, times=30) is None
    assert on.run(24) is None
    assert on.compiled == [None]


def test_a_compilation_that_fails_beside_is_told_by_the_call_that_needs_it(
    stage: Callable[..., Stage],
) -> None:
    on = stage(2)
    on.run(16)
    on.failing = True
    with pytest.raises(BackendError, match="out of memory"):
        on.run(24)


def test_closing_gives_up_what_is_not_compiled_yet(stage: Callable[..., Stage]) -> None:
    on = stage(2)
    on.run(16)
    on.forms.close()
    assert on.compiled == [of(16)]


def test_weights_and_code_of_all_forms_fit_the_room() -> None:
    assert most_single(0) == ROOM // CODE - 1
    for weights in (10**6, 10**8, 2 * 10**8):
        forms = most_single(weights) + 1
        assert forms * (weights + CODE) <= ROOM
        assert (forms + 1) * (weights + CODE) > ROOM
    assert most_single(10**10) == 0

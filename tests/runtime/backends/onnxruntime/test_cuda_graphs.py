"""The cost of a failed CUDA graph to ONNX Runtime's engines: the failures that an H200 has shown,
and their kind. No CUDA is in it.
"""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from runtime.backends.device.cuda import Cuda, DeviceMemory
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.onnxruntime.cuda import OnnxRuntimeCuda
from runtime.draw.generate import Generator
from runtime.errors import BackendError, DeviceError
from runtime.package.target import Target
from runtime.plan.model import Model
from tests.fakes.cuda import FakeCuda, FakeError
from tests.fakes.provider import BODY, Machine, drawn

CONCAT = (
    "Non-zero status code returned while running Concat node. Name:'node_stack' Status Message: "
    "CUDA Concat supports at most 32 inputs during CUDA Graph capture, but got 33"
)
COPY = "Non-zero status code returned while running MemcpyToHost node. Name:'Memcpy_token_1'"


@pytest.fixture(scope="module")
def expected(model: Model) -> np.ndarray:
    return drawn(Generator(model, OnnxRuntimeCpu(model.package, threads=1)))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max())


def served(machine: Machine, model: Model, target: Target) -> tuple[Generator, OnnxRuntimeCuda]:
    backend = machine.backend(model, target)
    return Generator(model, backend), backend


def of_the_denoiser(told: Callable[[], str]) -> Callable[[bytes, int], str]:
    """The outcome of captures of the step graph; captures of other networks succeed."""

    def in_capture(content: bytes, _: int) -> str:
        names = {each.name for each in onnx.load_model_from_string(content).graph.input}
        return told() if "coefficients" in names else ""

    return in_capture


def test_what_a_node_refuses_is_told_by_its_name_and_the_picture_is_the_same(
    model: Model, target: Target, machine: Machine, expected: np.ndarray
) -> None:
    machine.provider.in_capture = of_the_denoiser(lambda: CONCAT)
    generator, backend = served(machine, model, target)
    first = drawn(generator)
    assert close(first, expected)
    (told,) = backend.shortfalls
    assert told.startswith("denoiser at batch 1, evaluations 2, ")
    assert "Concat node. Name:'node_stack'" in told
    assert "at most 32 inputs during CUDA Graph capture, but got 33" in told
    tried = machine.cuda.captures
    assert np.array_equal(drawn(generator), first)
    assert machine.cuda.captures == tried
    assert len(machine.models) == len({*machine.models})


@pytest.mark.parametrize("growing", [1, 3, 50])
def test_memory_that_the_arena_wants_in_a_capture_is_given_to_it(
    growing: int, model: Model, target: Target, machine: Machine, expected: np.ndarray
) -> None:
    machine.provider.growing = growing
    generator, backend = served(machine, model, target)
    for _ in range(2):
        assert close(drawn(generator), expected)
    assert list(backend.shortfalls) == []
    launched = machine.cuda.launches
    drawn(generator)
    assert machine.cuda.launches - launched == BODY["steps"]


def leave_an_error(machine: Machine) -> Callable[[bytes, int], str]:
    """A capture that fails in the provider's own copy of CUDA's runtime, where the error stays."""

    def in_capture(_: bytes, stream: int) -> str:
        machine.provider.runtime.synchronize(stream)
        return COPY

    return in_capture


def test_an_error_that_a_capture_left_behind_fails_no_plain_run(
    model: Model, target: Target, machine: Machine, expected: np.ndarray
) -> None:
    machine.provider.in_capture = leave_an_error(machine)
    generator, backend = served(machine, model, target)
    first = drawn(generator)
    assert close(first, expected)
    assert np.array_equal(drawn(generator), first)
    assert all("MemcpyToHost node. Name:'Memcpy_token_1'" in each for each in backend.shortfalls)
    # Every session was opened once: nothing failed behind the captures.
    assert len(machine.models) == len({*machine.models})


def test_where_the_error_cannot_be_read_away_a_session_is_opened_once_more_without_captures(
    model: Model,
    target: Target,
    machine: Machine,
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a copy of the runtime that is linked into the library, which nobody finds."""
    loras = {"loras": [{"id": model.loras()[0].id, "weight": 1.0}]}
    with_loras = drawn(Generator(model, OnnxRuntimeCpu(model.package, threads=1)), **loras)
    machine.provider.in_capture = leave_an_error(machine)
    monkeypatch.setattr(Cuda, "forget_errors", lambda _: None)
    generator, backend = served(machine, model, target)
    every = len(machine.provider.opened)
    for _ in range(2):
        assert close(drawn(generator), expected)
    told = "was opened again and runs without CUDA graphs"
    opened_again = [each for each in backend.shortfalls if told in each]
    assert machine.provider.opened[every:] == [False] * len(opened_again) != []
    assert close(generator.decode(drawn(generator)), generator.decode(expected))
    # LoRAs open sessions of their own, which captures nothing has spoilt.
    for _ in range(2):
        assert close(drawn(generator, **loras), with_loras)
    assert close(drawn(generator), expected)


def test_a_session_follows_the_stream_that_takes_the_place_of_a_stuck_one(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch, expected: np.ndarray
) -> None:
    class Stuck(FakeCuda):
        def cudaStreamEndCapture(self, stream: int) -> tuple[FakeError, int | None]:  # noqa: ARG002, N802
            return FakeError.cudaErrorStreamCaptureWrongThread, None

    loras = {"loras": [{"id": model.loras()[0].id, "weight": 1.0}]}
    reference = Generator(model, OnnxRuntimeCpu(model.package, threads=1))
    with_loras, alone = drawn(reference, **loras), drawn(reference, cfg_scale=1.0)
    machine = Machine(monkeypatch, Stuck())
    generator, backend = served(machine, model, target)
    # The two sessions of an engine share a stream: each has to follow where the other lost it, one
    # of them in the middle of a new call.
    for _ in range(2):
        assert close(drawn(generator), expected)
        assert close(drawn(generator, **loras), with_loras)
        assert close(drawn(generator, cfg_scale=1.0), alone)
    # A session that was opened for plain runs alone is not captured: it would end the process.
    assert machine.provider.captured_plain_sessions == 0
    assert any("cudaErrorStreamCaptureWrongThread" in each for each in backend.shortfalls)


def test_no_graph_outlives_the_session_that_it_was_captured_of(
    model: Model,
    target: Target,
    machine: Machine,
    expected: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = drawn(Generator(model, OnnxRuntimeCpu(model.package, threads=1)), cfg_scale=1.0)
    generator, backend = served(machine, model, target)
    assert close(drawn(generator), expected)
    machine.provider.in_capture = leave_an_error(machine)
    monkeypatch.setattr(Cuda, "forget_errors", lambda _: None)
    assert close(drawn(generator, cfg_scale=1.0), alone)
    assert any("denoiser was opened again" in each for each in backend.shortfalls)
    launched = machine.cuda.launches
    for _ in range(2):
        assert close(drawn(generator), expected)
    assert machine.cuda.launches == launched


def test_a_session_that_cannot_be_opened_again_is_the_end_of_its_process(
    model: Model, target: Target, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, _ = served(machine, model, target)
    machine.provider.in_capture = leave_an_error(machine)
    machine.provider.refusal = "out of memory"
    monkeypatch.setattr(Cuda, "forget_errors", lambda _: None)
    with pytest.raises(DeviceError, match=r"cannot be opened again: .*out of memory"):
        drawn(generator)


def test_a_call_that_finds_no_room_gives_back_what_it_had(
    model: Model, target: Target, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.provider.growing = 0
    engine = machine.backend(model, target).open("vae_decoder")
    latents = {"latents": np.zeros((1, 4, 8, 8), np.float32)}
    allocate = Cuda.allocate

    def allocate_no_picture(self: Cuda, size_bytes: int, use: str) -> DeviceMemory:
        if size_bytes >= 3 * 64 * 64:
            raise BackendError(f"the GPU's memory does not hold {use}")
        return allocate(self, size_bytes, use)

    monkeypatch.setattr(Cuda, "allocate", allocate_no_picture)
    for _ in range(2):
        with pytest.raises(BackendError, match="does not hold buffers"):
            engine.run(latents)
        before = machine.cuda.allocated_bytes
    with pytest.raises(BackendError, match="does not hold buffers"):
        engine.run(latents)
    assert machine.cuda.allocated_bytes == before


def test_a_session_opened_again_has_the_weights_of_the_set_that_is_loaded(
    model: Model, target: Target, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    loras = {"loras": [{"id": model.loras()[0].id, "weight": 1.0}]}
    expected = drawn(Generator(model, OnnxRuntimeCpu(model.package, threads=1)), **loras)
    generator, backend = served(machine, model, target)
    drawn(generator)
    machine.provider.in_capture = leave_an_error(machine)
    monkeypatch.setattr(Cuda, "forget_errors", lambda _: None)
    for _ in range(2):
        assert close(drawn(generator, **loras), expected)
    assert any("was opened again" in each for each in backend.shortfalls)


def test_a_graph_whose_tables_another_run_overwrites_is_dropped(
    model: Model, target: Target, machine: Machine, expected: np.ndarray
) -> None:
    alone = drawn(Generator(model, OnnxRuntimeCpu(model.package, threads=1)), cfg_scale=1.0)
    machine.provider.keeps_tables = False
    generator, backend = served(machine, model, target)
    for _ in range(3):
        assert close(drawn(generator), expected)
        assert close(drawn(generator, cfg_scale=1.0), alone)
    assert any("its replay was off by" in each for each in backend.shortfalls)


def test_runs_give_their_pinned_memory_back_wherever_nothing_is_captured(
    model: Model, target: Target, machine: Machine
) -> None:
    machine.provider.in_capture = lambda _model, _stream: COPY
    generator, _ = served(machine, model, target)
    waits: list[bool] = []
    synchronize = machine.provider.runtime.synchronize
    machine.provider.runtime.synchronize = lambda stream: (waits.append(True), synchronize(stream))[
        1
    ]  # type: ignore[method-assign,func-returns-value]
    drawn(generator)
    waits.clear()
    drawn(generator)
    assert len(waits) >= BODY["steps"]

"""Captures and last errors of the stand-ins, with gcc alone."""

import ctypes

import pytest

from tests.rehearsal.bindings import CaptureMode, CaptureStatus, Error, Machine
from tests.rehearsal.build import build, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="gcc is not installed")

LOCAL = CaptureMode.cudaStreamCaptureModeThreadLocal
RELAXED = CaptureMode.cudaStreamCaptureModeRelaxed
UNSUPPORTED = Error.cudaErrorStreamCaptureUnsupported
INVALIDATED = Error.cudaErrorStreamCaptureInvalidated


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    # Other tests of this process ask for the real libraries by name.
    return Machine(build(tmp_path_factory.mktemp("stand_ins"), "imagined-"), "imagined-")


@pytest.fixture
def stream(machine: Machine) -> int:
    machine.ours.cudaGetLastError()
    machine.theirs.cudaGetLastError()
    _, stream = machine.ours.cudaStreamCreateWithPriority(1, 0)
    return stream


def test_memory_within_a_capture_spoils_it(machine: Machine, stream: int) -> None:
    machine.ours.cudaStreamBeginCapture(stream, LOCAL)
    code, _ = machine.theirs.cudaMalloc(512)
    assert code == UNSUPPORTED
    _, status = machine.ours.cudaStreamIsCapturing(stream)
    assert status == CaptureStatus.cudaStreamCaptureStatusInvalidated
    assert machine.ours.cudaStreamEndCapture(stream)[0] == INVALIDATED
    _, status = machine.ours.cudaStreamIsCapturing(stream)
    assert status == CaptureStatus.cudaStreamCaptureStatusNone


def test_a_relaxed_capture_takes_memory(machine: Machine, stream: int) -> None:
    machine.ours.cudaStreamBeginCapture(stream, RELAXED)
    code, _ = machine.theirs.cudaMalloc(512)
    assert code == Error.cudaSuccess
    assert machine.ours.cudaStreamEndCapture(stream)[0] == Error.cudaSuccess


@pytest.mark.parametrize("mode", [LOCAL, RELAXED])
def test_no_capture_waits_for_its_own_stream(
    machine: Machine, stream: int, mode: CaptureMode
) -> None:
    machine.ours.cudaStreamBeginCapture(stream, mode)
    assert machine.theirs.cudaDeviceSynchronize() == (UNSUPPORTED,)
    assert machine.ours.cudaStreamEndCapture(stream)[0] == INVALIDATED


def test_each_copy_keeps_its_own_last_error_until_it_is_read(machine: Machine, stream: int) -> None:
    machine.ours.cudaStreamBeginCapture(stream, LOCAL)
    machine.theirs.cudaMalloc(512)
    machine.ours.cudaStreamEndCapture(stream)
    assert machine.ours.cudaPeekAtLastError() == (INVALIDATED,)
    assert machine.ours.cudaGetLastError() == (INVALIDATED,)
    assert machine.ours.cudaGetLastError() == (Error.cudaSuccess,)
    assert machine.theirs.cudaGetLastError() == (UNSUPPORTED,)
    assert machine.theirs.cudaGetLastError() == (Error.cudaSuccess,)


def test_a_graph_does_its_work_when_it_is_launched(machine: Machine, stream: int) -> None:
    cuda = machine.ours
    _, source = cuda.cudaMallocHost(4)
    _, target = cuda.cudaMallocHost(4)
    cuda.cudaMemsetAsync(source, 7, 4, stream)
    cuda.cudaMemsetAsync(target, 0, 4, stream)
    cuda.cudaStreamBeginCapture(stream, RELAXED)
    cuda.cudaMemcpyAsync(target, source, 4, 1, stream)
    _, graph = cuda.cudaStreamEndCapture(stream)
    assert _bytes_at(target) == bytes(4)
    _, instance = cuda.cudaGraphInstantiate(graph, 0)
    cuda.cudaGraphLaunch(instance, stream)
    assert _bytes_at(target) == bytes([7] * 4)


def _bytes_at(address: int) -> bytes:
    return ctypes.string_at(address, 4)

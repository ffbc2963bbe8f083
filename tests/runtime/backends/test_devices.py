"""GPUs are found, or it is said why there is none; looking for them never fails."""

import ctypes
import importlib
import subprocess
import sys

import pytest

from runtime.backends.devices import find_devices
from tests.fakes.cuda import FakeCuda, FakeError, FakeProperties


def test_a_gpu_is_told_by_name_capability_memory_and_driver() -> None:
    found = find_devices(FakeCuda((FakeProperties(name=b"GPU\0\0"), FakeProperties()), 13020))
    assert [gpu.name for gpu in found.gpus] == ["GPU", "Imagined GPU"]
    assert found.reason == ""
    gpu = found.first
    assert gpu is not None
    assert (gpu.compute_capability, gpu.memory_bytes, gpu.driver) == ("sm_89", 24 * 2**30, "13.2")
    assert str(gpu) == "GPU (sm_89, 25.8 GB)"


@pytest.mark.parametrize(
    ("cuda", "reason"),
    [
        (FakeCuda(driver=0), "this machine has no NVIDIA driver"),
        (FakeCuda(devices=()), "CUDA sees no GPU; look at CUDA_VISIBLE_DEVICES"),
    ],
)
def test_without_a_gpu_the_reason_is_told(cuda: FakeCuda, reason: str) -> None:
    found = find_devices(cuda)
    assert (found.gpus, found.first, found.reason) == ((), None, reason)


def test_what_cuda_says_is_passed_on() -> None:
    cuda = FakeCuda()
    cuda.failures["cudaGetDeviceCount"] = FakeError.cudaErrorNoDevice
    assert find_devices(cuda).reason == "CUDA finds no GPU: the words for 100"


def test_a_library_of_cudas_that_is_missing_is_the_reason() -> None:
    """The bindings look for it at the first call, and raise what they like."""

    class Unloadable(FakeCuda):
        def cudaGetDeviceCount(self) -> tuple[FakeError, int]:  # noqa: N802 - the vendor's
            raise RuntimeError("Failure finding\n  libcudart.so")

    found = find_devices(Unloadable())
    expected = "CUDA cannot be used: Failure finding libcudart.so"
    assert (found.first, found.reason) == (None, expected)


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (None, "this machine has no NVIDIA driver"),
        (object(), "install it with: pip install cuda-bindings"),
    ],
    ids=["no driver", "a driver"],
)
def test_without_the_bindings_their_installation_is_named_where_there_is_a_driver(
    library: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    def load(name: str) -> object:
        assert name == "libcuda.so.1"
        if library is None:
            raise OSError(name)
        return library

    monkeypatch.setattr(importlib, "import_module", missing)
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert find_devices().reason.endswith(reason)


def test_the_real_bindings_answer_in_this_process_whatever_the_machine_has() -> None:
    """And in a fresh one, whose end shows that nothing crashed."""
    found = find_devices()
    assert bool(found.gpus) != bool(found.reason)
    code = "from runtime.backends.devices import find_devices; print(len(find_devices().gpus))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(len(found.gpus))

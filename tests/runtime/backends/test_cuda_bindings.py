"""What we call of CUDA is there, under these names and with these parameters; so is what the fake
does in its place.
"""

import inspect

import pytest
from cuda.bindings import runtime as real

from runtime.backends.cuda_bindings import CudaBindings, load_bindings
from runtime.backends.cuda_fake import FakeCaptureMode, FakeCuda, FakeError, FakeMemcpyKind

FUNCTIONS = sorted(name for name in vars(CudaBindings) if name.startswith("cuda"))


def parameters(function: object) -> list[str]:
    assert callable(function)
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_the_real_ones(name: str) -> None:
    expected = parameters(getattr(real, name))
    assert parameters(getattr(CudaBindings, name)) == expected
    assert parameters(getattr(FakeCuda, name)) == expected


def test_the_fake_has_nothing_of_its_own() -> None:
    made_up = {name for name in vars(FakeCuda) if name.startswith("cuda")} - set(FUNCTIONS)
    assert made_up == set(CudaBindings.__annotations__)


@pytest.mark.parametrize(
    ("fake", "enumeration"),
    [
        (FakeError, "cudaError_t"),
        (FakeMemcpyKind, "cudaMemcpyKind"),
        (FakeCaptureMode, "cudaStreamCaptureMode"),
    ],
)
def test_an_enumeration_has_the_real_ones_numbers(fake: type[FakeError], enumeration: str) -> None:
    for member in fake:
        assert getattr(getattr(real, enumeration), member.name) == member.value


@pytest.mark.parametrize("name", ["cudaStreamNonBlocking", "cudaEventDisableTiming"])
def test_a_flag_is_the_real_ones(name: str) -> None:
    assert getattr(FakeCuda, name) == int(getattr(real, name))


def test_the_real_module_is_what_is_loaded() -> None:
    assert load_bindings() is real

"""Calls of CUDA exist under these names and with these parameters; so do those that the fake
does in its place.
"""

import inspect
from collections.abc import Callable
from ctypes import c_int, c_void_p

import pytest
from cuda.bindings import driver as real_driver
from cuda.bindings import runtime as real

from runtime.backends.device.cuda_bindings import (
    CudaBindings,
    DriverBindings,
    load_bindings,
    load_driver,
)
from runtime.backends.devices import find_devices
from tests.fakes.cuda import (
    FakeCaptureMode,
    FakeCuda,
    FakeError,
    FakeMemcpyKind,
    FakeResult,
)

FUNCTIONS = sorted(name for name in vars(CudaBindings) if name.startswith("cuda"))
DRIVER_FUNCTIONS = sorted(name for name in vars(DriverBindings) if name.startswith("cu"))


def parameters(function: object) -> list[str]:
    assert callable(function)
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_the_real_ones(name: str) -> None:
    expected = parameters(getattr(real, name))
    assert parameters(getattr(CudaBindings, name)) == expected
    assert parameters(getattr(FakeCuda, name)) == expected


@pytest.mark.parametrize("name", DRIVER_FUNCTIONS)
def test_a_function_is_the_real_drivers(name: str) -> None:
    expected = parameters(getattr(real_driver, name))
    assert parameters(getattr(DriverBindings, name)) == expected
    assert parameters(getattr(FakeCuda, name)) == expected


def test_the_fake_has_nothing_of_its_own() -> None:
    vendors = {name for name in dir(FakeCuda) if name.startswith(("cu", "CU"))}
    made_up = vendors - {*FUNCTIONS, *DRIVER_FUNCTIONS}
    assert made_up == {*CudaBindings.__annotations__, *DriverBindings.__annotations__}


def test_the_drivers_errors_have_the_real_ones_numbers() -> None:
    for member in FakeResult:
        assert getattr(real_driver.CUresult, member.name) == member.value


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


@pytest.mark.parametrize(
    "name", ["cudaStreamNonBlocking", "cudaEventDisableTiming", "cudaEventBlockingSync"]
)
def test_a_flag_is_the_real_ones(name: str) -> None:
    assert getattr(FakeCuda, name) == int(getattr(real, name))


@pytest.mark.skipif(find_devices().first is not None, reason="this machine has a GPU")
def test_the_real_driver_takes_what_we_hand_it() -> None:
    """Arguments are converted before a driver is looked for; here there is none."""
    values, types = (1, 2, 3, 4, 5, 6), (c_void_p, c_void_p, c_void_p, c_int, c_int, c_int)
    calls: list[Callable[[], object]] = [
        lambda: real_driver.cuModuleLoadData(b"PTX\0"),
        lambda: real_driver.cuModuleGetFunction(real_driver.CUmodule(0), b"low_rank_f16"),
        lambda: real_driver.cuLaunchKernel(
            real_driver.CUfunction(0), 2, 3, 1, 256, 1, 1, 0, 1234, (values, types), 0
        ),
    ]
    for call in calls:
        with pytest.raises(Exception, match="NVIDIA driver library"):
            call()
    with pytest.raises(TypeError):
        real_driver.cuModuleLoadData(object())


def test_the_real_modules_are_what_is_loaded() -> None:
    assert load_bindings() is real
    assert load_driver() is real_driver

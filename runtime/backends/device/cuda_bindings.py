"""NVIDIA's `cuda-bindings`, as far as we call it: the seam between our device code and CUDA.

We use two modules of the package: CUDA's runtime, and of the driver the functions that launch a
kernel of our own, which the runtime's module lacks in Python. Every function returns a tuple, whose
first element is the error code. The package imports on a machine with no GPU and no driver, where
the functions return an error. `tests.fakes.cuda` stands in for both modules; a test holds that fake
and these protocols to the real modules.

https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html
https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/driver.html
"""

# The names are the vendor's.
# ruff: noqa: N802, N815

import ctypes
import importlib
from types import ModuleType
from typing import Any, Protocol, cast

from runtime.errors import BackendError

Handle = Any
"""A stream, event, graph, module or kernel in the vendor's type; `int` gives its address."""

_RUNTIME = "cuda.bindings.runtime"
_DRIVER = "cuda.bindings.driver"

NO_DRIVER = "this machine has no NVIDIA driver"


class CudaBindings(Protocol):
    """The functions and enumerations that we use, under the vendor's names."""

    cudaError_t: Any
    cudaMemcpyKind: Any
    cudaStreamCaptureMode: Any
    cudaStreamCaptureStatus: Any
    cudaStreamNonBlocking: int
    cudaEventDisableTiming: int
    cudaEventBlockingSync: int

    def cudaGetDeviceCount(self) -> tuple[Any, int]: ...
    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, Any]: ...
    def cudaDriverGetVersion(self) -> tuple[Any, int]: ...
    def cudaGetErrorName(self, error: Any) -> tuple[Any, bytes]: ...
    def cudaGetErrorString(self, error: Any) -> tuple[Any, bytes]: ...
    def cudaGetLastError(self) -> tuple[Any]: ...
    def cudaMemGetInfo(self) -> tuple[Any, int, int]: ...
    def cudaMalloc(self, size: int) -> tuple[Any, int]: ...
    def cudaFree(self, devPtr: int) -> tuple[Any]: ...
    def cudaMallocHost(self, size: int) -> tuple[Any, int]: ...
    def cudaFreeHost(self, ptr: int) -> tuple[Any]: ...
    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: Any, stream: Handle
    ) -> tuple[Any]: ...
    def cudaMemsetAsync(
        self, devPtr: int, value: int, count: int, stream: Handle
    ) -> tuple[Any]: ...
    def cudaStreamCreateWithPriority(self, flags: int, priority: int) -> tuple[Any, Handle]: ...
    def cudaDeviceGetStreamPriorityRange(self) -> tuple[Any, int, int]: ...
    def cudaStreamDestroy(self, stream: Handle) -> tuple[Any]: ...
    def cudaStreamSynchronize(self, stream: Handle) -> tuple[Any]: ...
    def cudaStreamIsCapturing(self, stream: Handle) -> tuple[Any, Any]: ...
    def cudaStreamBeginCapture(self, stream: Handle, mode: Any) -> tuple[Any]: ...
    def cudaStreamEndCapture(self, stream: Handle) -> tuple[Any, Handle]: ...
    def cudaGraphInstantiate(self, graph: Handle, flags: int) -> tuple[Any, Handle]: ...
    def cudaGraphLaunch(self, graphExec: Handle, stream: Handle) -> tuple[Any]: ...
    def cudaGraphExecDestroy(self, graphExec: Handle) -> tuple[Any]: ...
    def cudaGraphDestroy(self, graph: Handle) -> tuple[Any]: ...
    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, Handle]: ...
    def cudaEventRecord(self, event: Handle, stream: Handle) -> tuple[Any]: ...
    def cudaEventSynchronize(self, event: Handle) -> tuple[Any]: ...
    def cudaEventDestroy(self, event: Handle) -> tuple[Any]: ...


class DriverBindings(Protocol):
    """The driver's functions that we use, under the vendor's names.

    The driver works in the context that the runtime made current in the same thread.
    """

    CUresult: Any

    def cuGetErrorName(self, error: Any) -> tuple[Any, bytes]: ...
    def cuGetErrorString(self, error: Any) -> tuple[Any, bytes]: ...
    def cuModuleLoadData(self, image: bytes) -> tuple[Any, Handle]: ...
    def cuModuleGetFunction(self, hmod: Handle, name: bytes) -> tuple[Any, Handle]: ...
    def cuLaunchKernel(  # noqa: PLR0917 - as the real one
        self,
        f: Handle,
        gridDimX: int,
        gridDimY: int,
        gridDimZ: int,
        blockDimX: int,
        blockDimY: int,
        blockDimZ: int,
        sharedMemBytes: int,
        hStream: Handle,
        kernelParams: tuple[tuple[int, ...], tuple[Any, ...]],
        extra: int,
    ) -> tuple[Any]: ...


def load_bindings() -> CudaBindings:
    """The runtime's real module. Raises BackendError where it is not installed, with that remedy
    where a driver is.
    """
    return cast("CudaBindings", _load(_RUNTIME))


def load_driver() -> DriverBindings:
    """The driver's real module. Raises BackendError where it is not installed."""
    return cast("DriverBindings", _load(_DRIVER))


def _load(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if not _driver_is_there():
            raise BackendError(NO_DRIVER) from error
        raise BackendError(
            "cuda-bindings is not installed, which finds GPUs and runs engines on them; "
            "install it with: pip install cuda-bindings"
        ) from error


def _driver_is_there() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True

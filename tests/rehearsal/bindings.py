"""The stand-ins as cuda-bindings would give them: its functions, on a copy of the runtime of ours.

The real package holds NVIDIA's own runtime, which no driver of ours can satisfy.
"""

# The names are the vendor's.
# ruff: noqa: N802, N815

import ctypes
import enum
from ctypes import byref, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from tests.rehearsal.build import DRIVER, OUR_RUNTIME, RUNTIME


class Error(enum.IntEnum):
    """CUDA's."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901
    cudaErrorStreamCaptureIsolation = 905
    cudaErrorCapturedEvent = 907


class MemcpyKind(enum.IntEnum):
    """CUDA's."""

    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class CaptureMode(enum.IntEnum):
    """CUDA's."""

    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class CaptureStatus(enum.IntEnum):
    """CUDA's."""

    cudaStreamCaptureStatusNone = 0
    cudaStreamCaptureStatusActive = 1
    cudaStreamCaptureStatusInvalidated = 2


class Runtime:
    """One copy of libcudart among the stand-ins."""

    cudaError_t = Error
    cudaMemcpyKind = MemcpyKind
    cudaStreamCaptureMode = CaptureMode
    cudaStreamCaptureStatus = CaptureStatus
    cudaStreamNonBlocking = 1
    cudaEventDisableTiming = 2
    cudaEventBlockingSync = 1

    def __init__(self, path: Path) -> None:
        """The driver is loaded already."""
        self._library = ctypes.CDLL(str(path))
        self._library.cudaGetErrorName.restype = ctypes.c_char_p

    def cudaGetErrorName(self, error: int) -> tuple[Error, bytes]:
        return Error.cudaSuccess, self._library.cudaGetErrorName(int(error))

    def cudaGetErrorString(self, error: int) -> tuple[Error, bytes]:
        return self.cudaGetErrorName(error)

    def cudaGetLastError(self) -> tuple[Error]:
        return (Error(self._library.cudaGetLastError()),)

    def cudaPeekAtLastError(self) -> tuple[Error]:
        return (Error(self._library.cudaPeekAtLastError()),)

    def cudaGetDeviceCount(self) -> tuple[Error, int]:
        return self._number("cudaGetDeviceCount")

    def cudaDriverGetVersion(self) -> tuple[Error, int]:
        return self._number("cudaDriverGetVersion")

    def cudaMemGetInfo(self) -> tuple[Error, int, int]:
        free, total = c_size_t(), c_size_t()
        code = Error(self._library.cudaMemGetInfo(byref(free), byref(total)))
        return code, free.value, total.value

    def cudaMalloc(self, size: int) -> tuple[Error, int]:
        return self._handle("cudaMalloc", c_size_t(size))

    def cudaFree(self, devPtr: int) -> tuple[Error]:
        return self._call("cudaFree", c_void_p(devPtr))

    def cudaMallocHost(self, size: int) -> tuple[Error, int]:
        return self._handle("cudaMallocHost", c_size_t(size))

    def cudaFreeHost(self, ptr: int) -> tuple[Error]:
        return self._call("cudaFreeHost", c_void_p(ptr))

    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: int, stream: int
    ) -> tuple[Error]:
        sized = c_void_p(dst), c_void_p(src), c_size_t(count)
        return self._call("cudaMemcpyAsync", *sized, c_int(kind), c_void_p(stream))

    def cudaMemsetAsync(self, devPtr: int, value: int, count: int, stream: int) -> tuple[Error]:
        what = c_void_p(devPtr), c_int(value), c_size_t(count)
        return self._call("cudaMemsetAsync", *what, c_void_p(stream))

    def cudaStreamCreateWithPriority(self, flags: int, priority: int) -> tuple[Error, int]:
        return self._handle("cudaStreamCreateWithPriority", flags, priority)

    def cudaStreamDestroy(self, stream: int) -> tuple[Error]:
        return self._call("cudaStreamDestroy", c_void_p(stream))

    def cudaDeviceGetStreamPriorityRange(self) -> tuple[Error, int, int]:
        return Error.cudaSuccess, 0, -5

    def cudaStreamSynchronize(self, stream: int) -> tuple[Error]:
        return self._call("cudaStreamSynchronize", c_void_p(stream))

    def cudaDeviceSynchronize(self) -> tuple[Error]:
        return self._call("cudaDeviceSynchronize")

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Error]:
        return self._call("cudaStreamBeginCapture", c_void_p(stream), int(mode))

    def cudaStreamEndCapture(self, stream: int) -> tuple[Error, int]:
        graph = c_void_p()
        code = Error(self._library.cudaStreamEndCapture(c_void_p(stream), byref(graph)))
        return code, graph.value or 0

    def cudaStreamIsCapturing(self, stream: int) -> tuple[Error, CaptureStatus]:
        status = c_int()
        code = Error(self._library.cudaStreamIsCapturing(c_void_p(stream), byref(status)))
        return code, CaptureStatus(status.value)

    def cudaThreadExchangeStreamCaptureMode(self, mode: int) -> tuple[Error, CaptureMode]:
        held = c_int(mode)
        code = Error(self._library.cudaThreadExchangeStreamCaptureMode(byref(held)))
        return code, CaptureMode(held.value)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Error, int]:
        return self._handle("cudaGraphInstantiate", c_void_p(graph), ctypes.c_ulonglong(flags))

    def cudaGraphLaunch(self, graphExec: int, stream: int) -> tuple[Error]:
        return self._call("cudaGraphLaunch", c_void_p(graphExec), c_void_p(stream))

    def cudaGraphExecDestroy(self, graphExec: int) -> tuple[Error]:
        return self._call("cudaGraphExecDestroy", c_void_p(graphExec))

    def cudaGraphDestroy(self, graph: int) -> tuple[Error]:
        return self._call("cudaGraphDestroy", c_void_p(graph))

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Error, int]:
        return self._handle("cudaEventCreateWithFlags", flags)

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Error]:
        return self._call("cudaEventRecord", c_void_p(event), c_void_p(stream))

    def cudaEventSynchronize(self, event: int) -> tuple[Error]:
        return self._call("cudaEventSynchronize", c_void_p(event))

    def cudaEventDestroy(self, event: int) -> tuple[Error]:
        return self._call("cudaEventDestroy", c_void_p(event))

    def _call(self, name: str, *arguments: Any) -> tuple[Error]:
        return (Error(getattr(self._library, name)(*arguments)),)

    def _handle(self, name: str, *arguments: Any) -> tuple[Error, int]:
        made = c_void_p()
        code = Error(getattr(self._library, name)(byref(made), *arguments))
        return code, made.value or 0

    def _number(self, name: str) -> tuple[Error, int]:
        number = c_int()
        return Error(getattr(self._library, name)(byref(number))), number.value


class Machine:
    """The stand-ins, loaded into this process, where vendors' libraries find them by name."""

    def __init__(self, folder: Path, prefix: str = "") -> None:
        """`folder` is where they were built, with `prefix`."""
        self._driver = ctypes.CDLL(str(folder / f"{prefix}{DRIVER}"))
        self.theirs = Runtime(folder / f"{prefix}{RUNTIME}")
        """The copy that ONNX Runtime uses."""
        for name in ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudnn.so.9"):
            ctypes.CDLL(str(folder / f"{prefix}{name}"))
        self.ours = Runtime(folder / f"{prefix}{OUR_RUNTIME}")
        """The copy that stands for cuda-bindings'."""

    def mark(self, words: str) -> None:
        """A line of the log, written out with all before it."""
        self._driver.device_mark(words.encode())

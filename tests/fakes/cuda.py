"""Stands in for `cuda-bindings` where there is no GPU: memory, streams, events, graphs, kernels.

It is as lazy as the real thing. Work on a stream is done when somebody waits for it, and not
before: host memory that is written again too early, or read too soon, gives wrong numbers here too.
Device addresses are no addresses of this process. A captured graph holds the addresses that it was
captured with. It computes nothing itself: a kernel of ours is looked up in the PTX and computed by
`tests.fakes.kernels`, and the fakes of vendors pass a function.

A capture is as strict as CUDA's: a call that its mode forbids fails and spoils it, what is put on a
spoilt stream is refused, and its end gives no graph. An error stays the last one of its thread, in
the copy of the runtime that met it, until it is read there: vendors have a copy of their own.

https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__STREAM.html
"""

# The names are the vendor's.
# ruff: noqa: N802, N815

import ctypes
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.kernels import KERNELS

Work = Callable[[], None]
Bytes = NDArray[np.uint8]

_FIRST_ADDRESS = 0x7A00_0000_0000
_ALIGNMENT = 512
_POISON = 0xCB


class FakeError(IntEnum):
    """Error codes, with the numbers of the real ones."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901
    cudaErrorStreamCaptureWrongThread = 908


class FakeResult(IntEnum):
    """The driver's error codes, with the numbers of the real ones."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_NOT_FOUND = 500


class FakeMemcpyKind(IntEnum):
    """Directions of a copy, with the numbers of the real ones."""

    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class FakeCaptureMode(IntEnum):
    """Whom a capture forbids unsafe calls, with the numbers of the real ones."""

    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class FakeCaptureStatus(IntEnum):
    """How a stream stands to captures, with the numbers of the real ones."""

    cudaStreamCaptureStatusNone = 0
    cudaStreamCaptureStatusActive = 1
    cudaStreamCaptureStatusInvalidated = 2


@dataclass(frozen=True)
class FakeProperties:
    """What a device says of itself."""

    name: bytes = b"Imagined GPU"
    major: int = 8
    minor: int = 9
    totalGlobalMem: int = 24 * 2**30


@dataclass(eq=False)
class FakeCapture:
    """Work of a stream that is recorded."""

    mode: FakeCaptureMode
    thread: int
    work: list[Work] = field(default_factory=list)
    spoilt: bool = False

    def forbids(self, thread: int) -> bool:
        """Whether a thread may make no unsafe call now."""
        if self.mode is FakeCaptureMode.cudaStreamCaptureModeThreadLocal:
            return thread == self.thread
        return self.mode is FakeCaptureMode.cudaStreamCaptureModeGlobal


@dataclass(eq=False)
class FakeStream:
    """A stream, with what it was made with."""

    flags: int
    priority: int
    waiting: deque[Work] = field(default_factory=deque)
    """What nobody has waited for yet."""
    capture: FakeCapture | None = None
    enqueued: int = 0
    """How much was ever put on it."""


@dataclass(eq=False)
class _Event:
    stream: FakeStream | None = None
    done: bool = True


class LastErrors:
    """What one copy of the runtime keeps: the last error of each thread."""

    def __init__(self) -> None:
        self._kept: dict[int, FakeError] = {}

    def keep(self, code: FakeError) -> FakeError:
        """The code, which stays the thread's last error if it is one."""
        if code is not FakeError.cudaSuccess:
            self._kept[threading.get_ident()] = code
        return code

    def read(self) -> FakeError:
        """The thread's last error, which is forgotten by that."""
        return self._kept.pop(threading.get_ident(), FakeError.cudaSuccess)


class FakeRuntime:
    """A vendor's own copy of CUDA's runtime: the same device, last errors of its own."""

    def __init__(self, cuda: "FakeCuda") -> None:
        self._cuda = cuda
        self._errors = LastErrors()

    def malloc(self, size: int) -> tuple[FakeError, int]:
        """Device memory."""
        code, address = self._cuda.malloc(size)
        return self._errors.keep(code), address

    def launch(self, stream: int, work: Work) -> FakeError:
        """Put a kernel on a stream."""
        return self._errors.keep(self._cuda.enqueue(stream, work))

    def synchronize(self, stream: int) -> FakeError:
        """Wait for a stream."""
        return self._errors.keep(self._cuda.synchronize(stream))

    def last_error(self) -> FakeError:
        """The thread's last error, which is forgotten by that."""
        return self._errors.read()


class FakeCuda:
    """Both modules, as far as `runtime.backends.device.cuda_bindings` names them."""

    CUresult = FakeResult
    cudaError_t = FakeError
    cudaMemcpyKind = FakeMemcpyKind
    cudaStreamCaptureMode = FakeCaptureMode
    cudaStreamCaptureStatus = FakeCaptureStatus
    cudaStreamNonBlocking = 1
    cudaEventDisableTiming = 2
    cudaEventBlockingSync = 1

    def __init__(
        self,
        devices: tuple[FakeProperties, ...] = (FakeProperties(),),
        driver: int = 13000,
        *,
        capturable: bool = True,
    ) -> None:
        """`driver` 0: there is none. `capturable` False: no capture ever gives a graph."""
        self._capturable = capturable
        self._devices = devices
        self._driver = driver
        self._memory: dict[int, Bytes] = {}
        self._pinned: dict[int, Bytes] = {}
        self._events: dict[int, _Event] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._modules: dict[int, str] = {}
        self._functions: dict[int, str] = {}
        self._next = _FIRST_ADDRESS
        self._handles = 1
        self._fault = FakeError.cudaSuccess
        self._errors = LastErrors()
        self._lock = threading.RLock()
        self.streams: dict[int, FakeStream] = {}
        """By their handles."""
        self.failures: dict[str, FakeError] = {}
        """What a function answers when it is called next."""
        self.captures = 0
        """How often a capture was ended."""
        self.launches = 0
        """How often a graph was launched."""

    # What tests and the fake of TensorRT ask of it.

    def enqueue(self, stream: int, work: Work) -> FakeError:
        """Put a kernel on a stream; a copy of the runtime keeps what is answered."""
        with self._lock:
            found = self.streams[stream]
            if found.capture is None:
                found.enqueued += 1
                found.waiting.append(work)
            elif found.capture.spoilt:
                return FakeError.cudaErrorStreamCaptureInvalidated
            else:
                found.enqueued += 1
                found.capture.work.append(work)
        return FakeError.cudaSuccess

    def malloc(self, size: int) -> tuple[FakeError, int]:
        """Device memory; a copy of the runtime keeps what is answered."""
        with self._lock:
            if code := self._unsafe():
                return code, 0
            if size > self._devices[0].totalGlobalMem - self.allocated_bytes:
                return FakeError.cudaErrorMemoryAllocation, 0
            address = self._next
            self._next += -(-size // _ALIGNMENT) * _ALIGNMENT + _ALIGNMENT
            self._memory[address] = np.full(size, _POISON, np.uint8)
            return FakeError.cudaSuccess, address

    def synchronize(self, stream: int) -> FakeError:
        """Wait for a stream, which spoils a capture; a copy of the runtime keeps the answer."""
        with self._lock:
            found = self.streams[stream]
            if found.capture is not None:
                found.capture.spoilt = True
                return FakeError.cudaErrorStreamCaptureUnsupported
            self._drain(found)
        return FakeError.cudaSuccess

    def view(self, address: int, size: int) -> Bytes:
        """Device memory; an address that is no such memory is a fault, as on a device."""
        for begin, content in self._memory.items():
            if begin <= address and address + size <= begin + len(content):
                return content[address - begin : address - begin + size]
        self._fault = FakeError.cudaErrorIllegalAddress
        return np.zeros(size, np.uint8)

    def is_capturing(self, stream: int) -> bool:
        """Whether work on a stream is recorded and not done."""
        return self.streams[stream].capture is not None

    @property
    def graphs(self) -> int:
        """How many have not been destroyed."""
        return len(self._graphs)

    @property
    def modules(self) -> int:
        """How many were loaded: the driver compiles each for its GPU."""
        return len(self._modules)

    @property
    def allocated_bytes(self) -> int:
        """The device memory that is in use."""
        return sum(len(content) for content in self._memory.values())

    # The vendor's functions.

    def cudaGetDeviceCount(self) -> tuple[FakeError, int]:
        if not self._driver:
            return FakeError.cudaErrorInsufficientDriver, 0
        return self._code("cudaGetDeviceCount"), len(self._devices)

    def cudaGetDeviceProperties(self, device: int) -> tuple[FakeError, FakeProperties]:
        return self._code("cudaGetDeviceProperties"), self._devices[device]

    def cudaDriverGetVersion(self) -> tuple[FakeError, int]:
        return FakeError.cudaSuccess, self._driver

    def cudaGetErrorName(self, error: FakeError) -> tuple[FakeError, bytes]:
        return FakeError.cudaSuccess, error.name.encode()

    def cudaGetErrorString(self, error: FakeError) -> tuple[FakeError, bytes]:
        return FakeError.cudaSuccess, f"the words for {error.value}".encode()

    def cudaMemGetInfo(self) -> tuple[FakeError, int, int]:
        total = self._devices[0].totalGlobalMem
        return self._code("cudaMemGetInfo"), total - self.allocated_bytes, total

    def cudaGetLastError(self) -> tuple[FakeError]:
        return (self._errors.read(),)

    def cudaMalloc(self, size: int) -> tuple[FakeError, int]:
        code, address = self.malloc(size)
        return (self._errors.keep(code), 0) if code else (self._code("cudaMalloc"), address)

    def cudaFree(self, devPtr: int) -> tuple[FakeError]:
        with self._lock:
            if code := self._unsafe():
                return (self._errors.keep(code),)
            for stream in self.streams.values():
                self._drain(stream)
            del self._memory[devPtr]
            return (self._code("cudaFree"),)

    def cudaMallocHost(self, size: int) -> tuple[FakeError, int]:
        content = np.full(size, _POISON, np.uint8)
        with self._lock:
            if code := self._unsafe():
                return self._errors.keep(code), 0
            self._pinned[content.ctypes.data] = content
        return self._code("cudaMallocHost"), content.ctypes.data

    def cudaFreeHost(self, ptr: int) -> tuple[FakeError]:
        with self._lock:
            if code := self._unsafe():
                return (self._errors.keep(code),)
            del self._pinned[ptr]
        return (self._code("cudaFreeHost"),)

    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: FakeMemcpyKind, stream: int
    ) -> tuple[FakeError]:
        to_host = kind is FakeMemcpyKind.cudaMemcpyDeviceToHost
        from_host = kind is FakeMemcpyKind.cudaMemcpyHostToDevice
        if (from_host and not self._is_pinned(src)) or (to_host and not self._is_pinned(dst)):
            return (self._errors.keep(FakeError.cudaErrorInvalidValue),)

        def copy() -> None:
            if from_host:
                target = self.view(dst, count)
                ctypes.memmove(target.ctypes.data, src, count)
            elif to_host:
                source = self.view(src, count)
                ctypes.memmove(dst, source.ctypes.data, count)
            else:
                self.view(dst, count)[:] = self.view(src, count)

        return (self._put("cudaMemcpyAsync", stream, copy),)

    def cudaMemsetAsync(
        self,
        devPtr: int,
        value: int,
        count: int,
        stream: int,
    ) -> tuple[FakeError]:
        work: Work = lambda: self.view(devPtr, count).fill(value)  # noqa: E731
        return (self._put("cudaMemsetAsync", stream, work),)

    def cudaStreamCreateWithPriority(self, flags: int, priority: int) -> tuple[FakeError, int]:
        made = self._made(self.streams, FakeStream(flags, priority))
        return self._code("cudaStreamCreateWithPriority"), made

    def cudaDeviceGetStreamPriorityRange(self) -> tuple[FakeError, int, int]:
        return FakeError.cudaSuccess, 0, -5

    def cudaStreamDestroy(self, stream: int) -> tuple[FakeError]:
        with self._lock:
            found = self.streams.pop(stream)
            if found.capture is None:
                self._drain(found)
        return (self._code("cudaStreamDestroy"),)

    def cudaStreamSynchronize(self, stream: int) -> tuple[FakeError]:
        code = self.synchronize(stream)
        return (self._errors.keep(code) if code else self._code("cudaStreamSynchronize"),)

    def cudaStreamIsCapturing(self, stream: int) -> tuple[FakeError, FakeCaptureStatus]:
        capture = self.streams[stream].capture
        if capture is None:
            status = FakeCaptureStatus.cudaStreamCaptureStatusNone
        elif capture.spoilt:
            status = FakeCaptureStatus.cudaStreamCaptureStatusInvalidated
        else:
            status = FakeCaptureStatus.cudaStreamCaptureStatusActive
        return FakeError.cudaSuccess, status

    def cudaStreamBeginCapture(self, stream: int, mode: FakeCaptureMode) -> tuple[FakeError]:
        capture = FakeCapture(mode, threading.get_ident(), spoilt=not self._capturable)
        self.streams[stream].capture = capture
        return (self._code("cudaStreamBeginCapture"),)

    def cudaStreamEndCapture(self, stream: int) -> tuple[FakeError, int | None]:
        found = self.streams[stream]
        capture = found.capture
        if capture is None:
            return self._errors.keep(FakeError.cudaErrorInvalidValue), None
        relaxed = capture.mode is FakeCaptureMode.cudaStreamCaptureModeRelaxed
        if not relaxed and capture.thread != threading.get_ident():
            capture.spoilt = True
            return self._errors.keep(FakeError.cudaErrorStreamCaptureWrongThread), None
        found.capture = None
        self.captures += 1
        if capture.spoilt:
            return self._errors.keep(FakeError.cudaErrorStreamCaptureInvalidated), None
        if code := self._code("cudaStreamEndCapture"):
            return code, None
        return FakeError.cudaSuccess, self._made(self._graphs, capture.work)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[FakeError, int]:  # noqa: ARG002
        return self._code("cudaGraphInstantiate"), self._made(self._graphs, self._graphs[graph])

    def cudaGraphLaunch(self, graphExec: int, stream: int) -> tuple[FakeError]:
        if code := self._code("cudaGraphLaunch"):
            return (code,)
        self.launches += 1
        for work in self._graphs[graphExec]:
            self.enqueue(stream, work)
        return (FakeError.cudaSuccess,)

    def cudaGraphExecDestroy(self, graphExec: int) -> tuple[FakeError]:
        del self._graphs[graphExec]
        return (FakeError.cudaSuccess,)

    def cudaGraphDestroy(self, graph: int) -> tuple[FakeError]:
        del self._graphs[graph]
        return (FakeError.cudaSuccess,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[FakeError, int]:  # noqa: ARG002
        return self._code("cudaEventCreateWithFlags"), self._made(self._events, _Event())

    def cudaEventRecord(self, event: int, stream: int) -> tuple[FakeError]:
        found = self._events[event]
        found.stream, found.done = self.streams[stream], False

        def reached() -> None:
            found.done = True

        return (self._put("cudaEventRecord", stream, reached),)

    def cudaEventSynchronize(self, event: int) -> tuple[FakeError]:
        with self._lock:
            found = self._events[event]
            while not found.done and found.stream is not None:
                found.stream.waiting.popleft()()
        return (self._code("cudaEventSynchronize"),)

    def cudaEventDestroy(self, event: int) -> tuple[FakeError]:
        del self._events[event]
        return (FakeError.cudaSuccess,)

    # The driver's functions.

    def cuGetErrorName(self, error: FakeResult) -> tuple[FakeResult, bytes]:
        return FakeResult.CUDA_SUCCESS, error.name.encode()

    def cuGetErrorString(self, error: FakeResult) -> tuple[FakeResult, bytes]:
        return FakeResult.CUDA_SUCCESS, f"the words for {error.value}".encode()

    def cuModuleLoadData(self, image: bytes) -> tuple[FakeResult, int]:
        return FakeResult.CUDA_SUCCESS, self._made(self._modules, image.decode())

    def cuModuleGetFunction(self, hmod: int, name: bytes) -> tuple[FakeResult, int]:
        if f".entry {name.decode()}(" not in self._modules[hmod]:
            return FakeResult.CUDA_ERROR_NOT_FOUND, 0
        return FakeResult.CUDA_SUCCESS, self._made(self._functions, name.decode())

    def cuLaunchKernel(  # noqa: PLR0917 - as the real one
        self,
        f: int,
        gridDimX: int,  # noqa: ARG002
        gridDimY: int,  # noqa: ARG002
        gridDimZ: int,  # noqa: ARG002
        blockDimX: int,  # noqa: ARG002
        blockDimY: int,  # noqa: ARG002
        blockDimZ: int,  # noqa: ARG002
        sharedMemBytes: int,  # noqa: ARG002
        hStream: int,
        kernelParams: tuple[tuple[int, ...], tuple[Any, ...]],
        extra: int,  # noqa: ARG002
    ) -> tuple[FakeResult]:
        values, types = kernelParams
        if len(values) != len(types):
            return (FakeResult.CUDA_ERROR_INVALID_VALUE,)
        kernel = KERNELS[self._functions[f]]
        self.enqueue(hStream, lambda: kernel(self.view, values))
        return (FakeResult.CUDA_SUCCESS,)

    def _code(self, name: str) -> FakeError:
        """What a function answers: what was asked for, or a fault that stays, as on a device."""
        return self._errors.keep(self._fault or self.failures.pop(name, FakeError.cudaSuccess))

    def _put(self, name: str, stream: int, work: Work) -> FakeError:
        """What a function answers that puts work on a stream."""
        code = self.enqueue(stream, work)
        return self._errors.keep(code) if code else self._code(name)

    def _unsafe(self) -> FakeError:
        """What a call answers that a capture may forbid; where one does, that spoils it."""
        spoilt = FakeError.cudaSuccess
        for stream in self.streams.values():
            if stream.capture is not None and stream.capture.forbids(threading.get_ident()):
                stream.capture.spoilt = True
                spoilt = FakeError.cudaErrorStreamCaptureUnsupported
        return spoilt

    def _drain(self, stream: FakeStream) -> None:
        while stream.waiting:
            stream.waiting.popleft()()

    def _made(self, kept: dict[int, Any], item: Any) -> int:
        with self._lock:
            self._handles += 1
            kept[self._handles] = item
            return self._handles

    def _is_pinned(self, address: int) -> bool:
        with self._lock:
            return any(
                begin <= address < begin + len(content) for begin, content in self._pinned.items()
            )

"""Stands in for `cuda-bindings` where there is no GPU: memory, streams, events, graphs, kernels.

It is as lazy as the real thing. Work on a stream is done when somebody waits for it, and not
before: host memory that is written again too early, or read too soon, gives wrong numbers here too.
Device addresses are no addresses of this process. A captured graph holds the addresses that it was
captured with. It computes nothing itself: a kernel of ours is looked up in the PTX and computed by
`runtime.backends.device.kernels_fake`, and the fakes of vendors pass a function.
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

from runtime.backends.device.kernels_fake import KERNELS

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
    """What a capture forbids other threads, with the numbers of the real ones."""

    cudaStreamCaptureModeThreadLocal = 1


@dataclass(frozen=True)
class FakeProperties:
    """What a device says of itself."""

    name: bytes = b"Imagined GPU"
    major: int = 8
    minor: int = 9
    totalGlobalMem: int = 24 * 2**30


@dataclass(eq=False)
class FakeStream:
    """A stream, with what it was made with."""

    flags: int
    priority: int
    waiting: deque[Work] = field(default_factory=deque)
    """What nobody has waited for yet."""
    captured: list[Work] | None = None
    enqueued: int = 0
    """How much was ever put on it."""


@dataclass(eq=False)
class _Event:
    stream: FakeStream | None = None
    done: bool = True


class FakeCuda:
    """Both modules, as far as `runtime.backends.device.cuda_bindings` names them."""

    CUresult = FakeResult
    cudaError_t = FakeError
    cudaMemcpyKind = FakeMemcpyKind
    cudaStreamCaptureMode = FakeCaptureMode
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

    def enqueue(self, stream: int, work: Work) -> None:
        """Put a kernel on a stream."""
        with self._lock:
            found = self.streams[stream]
            found.enqueued += 1
            if found.captured is None:
                found.waiting.append(work)
            else:
                found.captured.append(work)

    def view(self, address: int, size: int) -> Bytes:
        """Device memory; an address that is no such memory is a fault, as on a device."""
        for begin, content in self._memory.items():
            if begin <= address and address + size <= begin + len(content):
                return content[address - begin : address - begin + size]
        self._fault = FakeError.cudaErrorIllegalAddress
        return np.zeros(size, np.uint8)

    def is_capturing(self, stream: int) -> bool:
        """Whether work on a stream is recorded and not done."""
        return self.streams[stream].captured is not None

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

    def cudaMalloc(self, size: int) -> tuple[FakeError, int]:
        with self._lock:
            if size > self._devices[0].totalGlobalMem - self.allocated_bytes:
                return FakeError.cudaErrorMemoryAllocation, 0
            address = self._next
            self._next += -(-size // _ALIGNMENT) * _ALIGNMENT + _ALIGNMENT
            self._memory[address] = np.full(size, _POISON, np.uint8)
            return self._code("cudaMalloc"), address

    def cudaFree(self, devPtr: int) -> tuple[FakeError]:
        with self._lock:
            for stream in self.streams.values():
                self._drain(stream)
            del self._memory[devPtr]
            return (self._code("cudaFree"),)

    def cudaMallocHost(self, size: int) -> tuple[FakeError, int]:
        content = np.full(size, _POISON, np.uint8)
        with self._lock:
            self._pinned[content.ctypes.data] = content
        return self._code("cudaMallocHost"), content.ctypes.data

    def cudaFreeHost(self, ptr: int) -> tuple[FakeError]:
        with self._lock:
            del self._pinned[ptr]
        return (self._code("cudaFreeHost"),)

    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: FakeMemcpyKind, stream: int
    ) -> tuple[FakeError]:
        to_host = kind is FakeMemcpyKind.cudaMemcpyDeviceToHost
        from_host = kind is FakeMemcpyKind.cudaMemcpyHostToDevice
        if (from_host and not self._is_pinned(src)) or (to_host and not self._is_pinned(dst)):
            return (FakeError.cudaErrorInvalidValue,)

        def copy() -> None:
            if from_host:
                target = self.view(dst, count)
                ctypes.memmove(target.ctypes.data, src, count)
            elif to_host:
                source = self.view(src, count)
                ctypes.memmove(dst, source.ctypes.data, count)
            else:
                self.view(dst, count)[:] = self.view(src, count)

        self.enqueue(stream, copy)
        return (self._code("cudaMemcpyAsync"),)

    def cudaMemsetAsync(
        self,
        devPtr: int,
        value: int,
        count: int,
        stream: int,
    ) -> tuple[FakeError]:
        self.enqueue(stream, lambda: self.view(devPtr, count).fill(value))
        return (self._code("cudaMemsetAsync"),)

    def cudaStreamCreateWithPriority(self, flags: int, priority: int) -> tuple[FakeError, int]:
        made = self._made(self.streams, FakeStream(flags, priority))
        return self._code("cudaStreamCreateWithPriority"), made

    def cudaDeviceGetStreamPriorityRange(self) -> tuple[FakeError, int, int]:
        return FakeError.cudaSuccess, 0, -5

    def cudaStreamSynchronize(self, stream: int) -> tuple[FakeError]:
        with self._lock:
            if self.streams[stream].captured is not None:
                return (FakeError.cudaErrorStreamCaptureUnsupported,)
            self._drain(self.streams[stream])
        return (self._code("cudaStreamSynchronize"),)

    def cudaStreamBeginCapture(self, stream: int, mode: FakeCaptureMode) -> tuple[FakeError]:  # noqa: ARG002
        self.streams[stream].captured = []
        return (self._code("cudaStreamBeginCapture"),)

    def cudaStreamEndCapture(self, stream: int) -> tuple[FakeError, int]:
        found = self.streams[stream]
        captured, found.captured = found.captured or [], None
        self.captures += 1
        if not self._capturable:
            return FakeError.cudaErrorStreamCaptureUnsupported, 0
        return self._code("cudaStreamEndCapture"), self._made(self._graphs, captured)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[FakeError, int]:  # noqa: ARG002
        return self._code("cudaGraphInstantiate"), self._made(self._graphs, self._graphs[graph])

    def cudaGraphLaunch(self, graphExec: int, stream: int) -> tuple[FakeError]:
        self.launches += 1
        for work in self._graphs[graphExec]:
            self.enqueue(stream, work)
        return (self._code("cudaGraphLaunch"),)

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

        self.enqueue(stream, reached)
        return (self._code("cudaEventRecord"),)

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
        return self._fault or self.failures.pop(name, FakeError.cudaSuccess)

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

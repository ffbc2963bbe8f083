"""The runtime's module, as far as `CudaBindings` names it, together with the driver's."""

# The names are the vendor's.
# ruff: noqa: N802, N815

import ctypes
import threading

import numpy as np

from tests.fakes.cuda.codes import (
    FakeCaptureMode,
    FakeCaptureStatus,
    FakeError,
    FakeMemcpyKind,
    FakeProperties,
)
from tests.fakes.cuda.device import POISON
from tests.fakes.cuda.driver import FakeDriver
from tests.fakes.cuda.streams import FakeCapture, FakeEvent, FakeStream, Work


class FakeCuda(FakeDriver):
    """Both modules, as far as `runtime.backends.device.cuda_bindings` names them."""

    cudaError_t = FakeError
    cudaMemcpyKind = FakeMemcpyKind
    cudaStreamCaptureMode = FakeCaptureMode
    cudaStreamCaptureStatus = FakeCaptureStatus
    cudaStreamNonBlocking = 1
    cudaEventDisableTiming = 2
    cudaEventBlockingSync = 1

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
        content = np.full(size, POISON, np.uint8)
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
        return self._code("cudaEventCreateWithFlags"), self._made(self._events, FakeEvent())

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

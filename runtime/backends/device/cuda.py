"""One GPU: its memory, streams, events and graphs; CUDA's errors become DeviceError here.

Everything is enqueued and nothing waits, except where a method says so. Host memory that the device
reads or writes is pinned, and belongs to the device until an event that was recorded behind it is
waited for.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ctypes import c_ubyte
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from runtime.backends.device.cuda_bindings import (
    CudaBindings,
    DriverBindings,
    Handle,
    load_bindings,
    load_driver,
)
from runtime.backends.device.runtimes import ReadError, loaded_runtimes
from runtime.backends.rows import CPU
from runtime.errors import BackendError, DeviceError


class CaptureError(BackendError):
    """A CUDA graph could not be captured; the stream and the device are as they were before."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """A piece of the device's memory."""

    address: int
    size_bytes: int
    use: str
    """What for, as accounts are kept."""


class Pinned:
    """An array in host memory that the device can reach."""

    def __init__(self, cuda: "Cuda", shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """What it holds at first is not said."""
        self._cuda = cuda
        size = max(1, prod(shape) * np.dtype(dtype).itemsize)
        self.address = int(cuda.call("cudaMallocHost", cuda.bindings.cudaMallocHost(size)))
        self.array: NDArray[Any] = _array_at(self.address, size, shape, dtype)

    def free(self) -> None:
        """Give it back; `array` is not to be used any more."""
        self._cuda.call("cudaFreeHost", self._cuda.bindings.cudaFreeHost(self.address))


class Cuda:
    """The first GPU that CUDA sees. Threads may share it."""

    def __init__(
        self,
        bindings: CudaBindings | None = None,
        driver: DriverBindings | None = None,
        runtimes: Callable[[], Iterable[ReadError]] = loaded_runtimes,
    ) -> None:
        """The real bindings where none are given; `runtimes` lists the other copies of CUDA's
        runtime in this process. Raises BackendError where there is no GPU.
        """
        self.bindings = bindings or load_bindings()
        self.driver = driver or load_driver()
        self._runtimes = runtimes
        self._used: Counter[str] = Counter()
        self._lock = threading.Lock()
        count = self.call("cudaGetDeviceCount", self.bindings.cudaGetDeviceCount())
        if not count:
            raise BackendError("CUDA sees no GPU; look at CUDA_VISIBLE_DEVICES")

    def call(self, what: str, result: tuple[Any, ...]) -> Any:
        """What a function of the bindings answered. Raises DeviceError for an error."""
        code, *values = result
        if code != self.bindings.cudaError_t.cudaSuccess:
            _, name = self.bindings.cudaGetErrorName(code)
            _, words = self.bindings.cudaGetErrorString(code)
            raise DeviceError(f"{what}: {name.decode()}: {words.decode()}")
        return values[0] if len(values) == 1 else tuple(values)

    def call_driver(self, what: str, result: tuple[Any, ...]) -> Any:
        """What a function of the driver's bindings answered. Raises DeviceError for an error."""
        code, *values = result
        if code != self.driver.CUresult.CUDA_SUCCESS:
            _, name = self.driver.cuGetErrorName(code)
            _, words = self.driver.cuGetErrorString(code)
            raise DeviceError(f"{what}: {name.decode()}: {words.decode()}")
        return values[0] if values else None

    def forget_errors(self) -> None:
        """Read this thread's last error away in every copy of CUDA's runtime in the process.

        An error stays there until it is read, and a library that asks for the last error behind
        its own kernel would take an old error of somebody else's for that kernel's.
        """
        self.bindings.cudaGetLastError()
        for read_error in self._runtimes():
            read_error()

    @property
    def used(self) -> Mapping[str, int]:
        """Bytes of device memory that are in use, by what for; what CUDA itself takes is not."""
        with self._lock:
            return dict(+self._used)

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the device, whoever uses them."""
        free, total = self.call("cudaMemGetInfo", self.bindings.cudaMemGetInfo())
        return int(free), int(total)

    def check_room(self, sizes: Mapping[str, int]) -> None:
        """Refuse what cannot fit, before any of it is loaded; `sizes` are bytes of weights by role.

        Raises BackendError. What runs needs more than its weights: room for them is no promise.
        """
        free, total = self.memory()
        needed = sum(sizes.values())
        if needed > free:
            parts = ", ".join(f"{role} {size / 1e9:.2f}" for role, size in sorted(sizes.items()))
            raise BackendError(
                f"the engines take some {needed / 1e9:.2f} GB ({parts}), and {free / 1e9:.2f} of "
                f"{total / 1e9:.2f} GB of the GPU are free; end other programs that use it, "
                f"compile a target of a narrower --precision, or draw with --backend {CPU}"
            )

    def account(self, use: str, size_bytes: int) -> None:
        """A vendor's library has allocated so much by itself, or freed it."""
        with self._lock:
            self._used[use] += size_bytes

    def allocate(self, size_bytes: int, use: str) -> DeviceMemory:
        """Device memory, at least a byte. Raises BackendError that says what is missing."""
        size_bytes = max(1, size_bytes)
        code, address = self.bindings.cudaMalloc(size_bytes)
        if code == self.bindings.cudaError_t.cudaErrorMemoryAllocation:
            free, total = self.memory()
            raise BackendError(
                f"the GPU's memory does not hold {use}: {size_bytes / 1e9:.2f} GB are needed, "
                f"{free / 1e9:.2f} of {total / 1e9:.2f} GB are free; end other programs that use "
                "it, or serve fewer pictures at once with --max-batch"
            )
        self.call("cudaMalloc", (code, address))
        self.account(use, size_bytes)
        return DeviceMemory(int(address), size_bytes, use)

    def free(self, memory: DeviceMemory) -> None:
        """Give memory back. Waits for the device."""
        self.call("cudaFree", self.bindings.cudaFree(memory.address))
        self.account(memory.use, -memory.size_bytes)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> Pinned:
        """Host memory for copies that do not wait."""
        return Pinned(self, shape, dtype)

    def module(self, image: bytes) -> "Module":
        """Kernels, as PTX: the driver makes them into code for this GPU now."""
        self.memory()  # The driver works in the context that the runtime makes current with this.
        # It reads a string of C's.
        loaded = self.driver.cuModuleLoadData(image + b"\0")
        return Module(self, self.call_driver("cuModuleLoadData", loaded))

    def stream(self, *, urgent: bool) -> "Stream":
        """A stream of its own; what is `urgent` goes first where the device has a choice."""
        least, greatest = self.call(
            "cudaDeviceGetStreamPriorityRange", self.bindings.cudaDeviceGetStreamPriorityRange()
        )
        return Stream(self, greatest if urgent else least)


class Event:
    """A point on a stream."""

    def __init__(self, cuda: Cuda, stream: Handle) -> None:
        """Behind everything that is on the stream now."""
        self._cuda = cuda
        # A thread that waits sleeps: several wait for most of a step, and would each spin a core.
        flags = cuda.bindings.cudaEventDisableTiming | cuda.bindings.cudaEventBlockingSync
        self._event = cuda.call(
            "cudaEventCreateWithFlags", cuda.bindings.cudaEventCreateWithFlags(flags)
        )
        cuda.call("cudaEventRecord", cuda.bindings.cudaEventRecord(self._event, stream))

    def wait(self) -> None:
        """Wait until the device is there; once. Raises DeviceError for what failed before it."""
        bindings = self._cuda.bindings
        self._cuda.call("cudaEventSynchronize", bindings.cudaEventSynchronize(self._event))
        self._cuda.call("cudaEventDestroy", bindings.cudaEventDestroy(self._event))


class Module:
    """Kernels of ours."""

    def __init__(self, cuda: Cuda, handle: Handle) -> None:
        self._cuda = cuda
        self._handle = handle

    def launch(
        self,
        name: str,
        stream: "Stream",
        grid: tuple[int, int],
        threads: int,
        arguments: tuple[tuple[int, ...], tuple[Any, ...]],
    ) -> None:
        """Enqueue a kernel: blocks of so many threads, `arguments` as values and their C types.

        Raises DeviceError.
        """
        cuda, driver = self._cuda, self._cuda.driver
        found = driver.cuModuleGetFunction(self._handle, name.encode())
        function = cuda.call_driver(f"cuModuleGetFunction of {name}", found)
        launched = driver.cuLaunchKernel(
            function, *grid, 1, threads, 1, 1, 0, stream.address, arguments, 0
        )
        cuda.call_driver(f"cuLaunchKernel of {name}", launched)


class Graph:
    """Work that was captured from a stream, at the addresses that it had then."""

    def __init__(self, cuda: Cuda, handle: Handle) -> None:
        self._cuda = cuda
        self._handle = handle

    def launch(self, stream: "Stream") -> None:
        """Enqueue all of it at once."""
        launched = self._cuda.bindings.cudaGraphLaunch(self._handle, stream.handle)
        self._cuda.call("cudaGraphLaunch", launched)

    def destroy(self) -> None:
        """It is not to be launched any more, nor running."""
        destroyed = self._cuda.bindings.cudaGraphExecDestroy(self._handle)
        self._cuda.call("cudaGraphExecDestroy", destroyed)


class Stream:
    """Work for the device, done in the order in which it was enqueued."""

    def __init__(self, cuda: Cuda, priority: int) -> None:
        self._cuda = cuda
        self._priority = priority
        self.handle = self._made()

    @property
    def address(self) -> int:
        """As other libraries take it; another one after a capture that could not be ended."""
        return int(self.handle)

    @property
    def is_capturing(self) -> bool:
        """Whether work on this stream is recorded, or refused by a capture that was spoilt."""
        bindings = self._cuda.bindings
        status = self._cuda.call(
            "cudaStreamIsCapturing", bindings.cudaStreamIsCapturing(self.handle)
        )
        return bool(status != bindings.cudaStreamCaptureStatus.cudaStreamCaptureStatusNone)

    def upload(self, target: int, source: Pinned, size_bytes: int) -> None:
        """Copy the beginning of pinned memory to the device."""
        kind = self._cuda.bindings.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(target, source.address, size_bytes, kind)

    def download(self, target: Pinned, source: int, size_bytes: int) -> None:
        """Copy from the device to the beginning of pinned memory."""
        kind = self._cuda.bindings.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(target.address, source, size_bytes, kind)

    def copy(self, target: int, source: int, size_bytes: int) -> None:
        """Copy within the device."""
        kind = self._cuda.bindings.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._copy(target, source, size_bytes, kind)

    def zero(self, target: int, size_bytes: int) -> None:
        """Fill with zeros."""
        filled = self._cuda.bindings.cudaMemsetAsync(target, 0, size_bytes, self.handle)
        self._cuda.call("cudaMemsetAsync", filled)

    def event(self) -> Event:
        """A point behind everything that is on it now."""
        return Event(self._cuda, self.handle)

    def synchronize(self) -> None:
        """Wait for all of it. Raises DeviceError for what failed."""
        bindings = self._cuda.bindings
        self._cuda.call("cudaStreamSynchronize", bindings.cudaStreamSynchronize(self.handle))

    def capture(self, enqueue: Callable[[], None]) -> Graph:
        """What `enqueue` puts on this stream, as a graph; none of it is done.

        Other threads go on meanwhile with streams of their own, and `enqueue` may allocate: the
        capture is relaxed. Raises CaptureError whatever fails in it; then the stream captures no
        more, and no copy of CUDA's runtime holds an error of the capture.
        """
        try:
            return self._captured(enqueue)
        except Exception as error:
            words = " ".join(str(error).split()) or type(error).__name__
            raise CaptureError(words) from error

    def _captured(self, enqueue: Callable[[], None]) -> Graph:
        cuda, bindings = self._cuda, self._cuda.bindings
        mode = bindings.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
        try:
            cuda.call("cudaStreamBeginCapture", bindings.cudaStreamBeginCapture(self.handle, mode))
            enqueue()
            graph = cuda.call("cudaStreamEndCapture", bindings.cudaStreamEndCapture(self.handle))
            try:
                handle = cuda.call("cudaGraphInstantiate", bindings.cudaGraphInstantiate(graph, 0))
            finally:
                bindings.cudaGraphDestroy(graph)
        except BaseException:
            self._leave_capture()
            raise
        return Graph(cuda, handle)

    def _leave_capture(self) -> None:
        bindings = self._cuda.bindings
        if self.is_capturing:
            code, graph = bindings.cudaStreamEndCapture(self.handle)
            # Half a graph, or none where the capture itself was spoilt.
            if code == bindings.cudaError_t.cudaSuccess and graph:
                bindings.cudaGraphDestroy(graph)
        self._cuda.forget_errors()
        if self.is_capturing:
            # Nothing can be done on it any more: another one takes its place.
            bindings.cudaStreamDestroy(self.handle)
            self._cuda.forget_errors()
            self.handle = self._made()

    def _made(self) -> Handle:
        bindings = self._cuda.bindings
        made = bindings.cudaStreamCreateWithPriority(bindings.cudaStreamNonBlocking, self._priority)
        return self._cuda.call("cudaStreamCreateWithPriority", made)

    def _copy(self, target: int, source: int, size_bytes: int, kind: Any) -> None:
        bindings = self._cuda.bindings
        copied = bindings.cudaMemcpyAsync(target, source, size_bytes, kind, self.handle)
        self._cuda.call("cudaMemcpyAsync", copied)


def _array_at(
    address: int, size_bytes: int, shape: tuple[int, ...], dtype: DTypeLike
) -> NDArray[Any]:
    content = np.ctypeslib.as_array((c_ubyte * size_bytes).from_address(address))
    stored = np.dtype(dtype)
    return content[: prod(shape) * stored.itemsize].view(stored).reshape(shape)

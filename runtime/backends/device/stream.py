"""Streams of a GPU, and events on them.

Everything is enqueued and nothing waits, except where a method says so. Host memory that the device
reads or writes is pinned, and belongs to the device until the host has waited for an event that was
recorded after the copy.
"""

from typing import Any

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.cuda_bindings import Handle
from runtime.backends.device.pinned import Pinned


class Event:
    """A point on a stream."""

    def __init__(self, cuda: Cuda, stream: Handle) -> None:
        """Record the event behind everything that is on the stream now."""
        self._cuda = cuda
        # A thread that waits sleeps: several wait for most of a step, and would each spin a core.
        flags = cuda.bindings.cudaEventDisableTiming | cuda.bindings.cudaEventBlockingSync
        self._event = cuda.call(
            "cudaEventCreateWithFlags", cuda.bindings.cudaEventCreateWithFlags(flags)
        )
        cuda.call("cudaEventRecord", cuda.bindings.cudaEventRecord(self._event, stream))

    def wait(self) -> None:
        """Wait, once, until the device reaches the event. Raises DeviceError for failed work."""
        bindings = self._cuda.bindings
        self._cuda.call("cudaEventSynchronize", bindings.cudaEventSynchronize(self._event))
        self._cuda.call("cudaEventDestroy", bindings.cudaEventDestroy(self._event))


class Stream:
    """Work for the device, done in the order in which it was enqueued."""

    def __init__(self, cuda: Cuda, *, urgent: bool) -> None:
        """An `urgent` stream's work goes first where the device has a choice."""
        self.cuda = cuda
        least, greatest = cuda.call(
            "cudaDeviceGetStreamPriorityRange", cuda.bindings.cudaDeviceGetStreamPriorityRange()
        )
        self._priority = greatest if urgent else least
        self.handle = self._made()

    @property
    def address(self) -> int:
        """The stream's address for other libraries; it changes when `replace` was called."""
        return int(self.handle)

    @property
    def is_capturing(self) -> bool:
        """True during a capture of this stream, also one that is spoilt and refuses all work."""
        bindings = self.cuda.bindings
        status = self.cuda.call(
            "cudaStreamIsCapturing", bindings.cudaStreamIsCapturing(self.handle)
        )
        return bool(status != bindings.cudaStreamCaptureStatus.cudaStreamCaptureStatusNone)

    def upload(self, target: int, source: Pinned, size_bytes: int) -> None:
        """Copy the beginning of pinned memory to the device."""
        kind = self.cuda.bindings.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(target, source.address, size_bytes, kind)
        self.cuda.count_upload(size_bytes)

    def download(self, target: Pinned, source: int, size_bytes: int) -> None:
        """Copy from the device to the beginning of pinned memory."""
        kind = self.cuda.bindings.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(target.address, source, size_bytes, kind)

    def copy(self, target: int, source: int, size_bytes: int) -> None:
        """Copy within the device."""
        kind = self.cuda.bindings.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._copy(target, source, size_bytes, kind)

    def zero(self, target: int, size_bytes: int) -> None:
        """Fill with zeros."""
        filled = self.cuda.bindings.cudaMemsetAsync(target, 0, size_bytes, self.handle)
        self.cuda.call("cudaMemsetAsync", filled)

    def event(self) -> Event:
        """An event behind everything that is on the stream now."""
        return Event(self.cuda, self.handle)

    def synchronize(self) -> None:
        """Wait for all work on the stream. Raises DeviceError for work that failed."""
        bindings = self.cuda.bindings
        self.cuda.call("cudaStreamSynchronize", bindings.cudaStreamSynchronize(self.handle))

    def replace(self) -> None:
        """Destroy the stream, which a capture left unusable, and create another one."""
        self.cuda.bindings.cudaStreamDestroy(self.handle)
        self.cuda.forget_errors()
        self.handle = self._made()

    def close(self) -> None:
        """Destroy the stream, on which no work is left; the stream cannot be used afterwards."""
        self.cuda.call("cudaStreamDestroy", self.cuda.bindings.cudaStreamDestroy(self.handle))

    def _made(self) -> Handle:
        bindings = self.cuda.bindings
        made = bindings.cudaStreamCreateWithPriority(bindings.cudaStreamNonBlocking, self._priority)
        return self.cuda.call("cudaStreamCreateWithPriority", made)

    def _copy(self, target: int, source: int, size_bytes: int, kind: Any) -> None:
        bindings = self.cuda.bindings
        copied = bindings.cudaMemcpyAsync(target, source, size_bytes, kind, self.handle)
        self.cuda.call("cudaMemcpyAsync", copied)

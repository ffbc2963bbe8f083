"""The device itself: its memory, its streams, and the faults that stay."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.cuda.codes import FakeError, FakeProperties
from tests.fakes.cuda.errors import LastErrors
from tests.fakes.cuda.streams import FakeEvent, FakeStream, Work

Bytes = NDArray[np.uint8]

_FIRST_ADDRESS = 0x7A00_0000_0000
_ALIGNMENT = 512
POISON = 0xCB
"""The byte that fills new memory."""


class FakeDevice:
    """The device behind both modules, for tests and the fakes of vendors."""

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
        self._events: dict[int, FakeEvent] = {}
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
        """The next answer of a function, by its name."""
        self.captures = 0
        """How often a capture was ended."""
        self.launches = 0
        """How often a graph was launched."""

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
            self._memory[address] = np.full(size, POISON, np.uint8)
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
        """True while work on a stream is recorded and not done."""
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

    def _code(self, name: str) -> FakeError:
        """A function's answer: its result, or a fault that stays, as on a device."""
        return self._errors.keep(self._fault or self.failures.pop(name, FakeError.cudaSuccess))

    def _put(self, name: str, stream: int, work: Work) -> FakeError:
        """The answer of a function that puts work on a stream."""
        code = self.enqueue(stream, work)
        return self._errors.keep(code) if code else self._code(name)

    def _unsafe(self) -> FakeError:
        """The answer of a call that a capture may forbid; a forbidden call spoils the capture."""
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

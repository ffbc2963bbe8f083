"""Asynchronous copies between host arrays and a device, through pinned memory that is reused."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.device.cuda import Cuda, DeviceMemory
from runtime.backends.device.pinned import Pinned
from runtime.backends.device.stream import Event, Stream
from runtime.backends.protocol import Array

_ROUNDS = 2
"""So many rounds of copies may be under way; before another one, the oldest is waited for."""

PIECE = 16 * 2**20
"""Bytes: a larger array goes up in pieces, so that pinned memory does not grow with it."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """An array on the device; rows of its first axis lie one after the other."""

    memory: DeviceMemory
    shape: tuple[int, ...]
    dtype: "np.dtype[Any]"

    @property
    def row_bytes(self) -> int:
        """The size of one row."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    def row(self, index: int) -> int:
        """A row's address."""
        return self.memory.address + index * self.row_bytes


class PinnedPool:
    """Pinned blocks whose sizes are powers of 2. To allocate a block stops the device, so blocks
    are reused and never freed.
    """

    def __init__(self, cuda: Cuda) -> None:
        """The pool starts empty; threads may share the pool."""
        self._cuda = cuda
        self._free: dict[int, list[Pinned]] = defaultdict(list)
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> Pinned:
        """A block of at least so many bytes."""
        size = 1 << max(0, size_bytes - 1).bit_length()
        with self._lock:
            if self._free[size]:
                return self._free[size].pop()
        return Pinned(self._cuda, (size,), np.uint8)

    def give_back(self, block: Pinned) -> None:
        """Take a block back, with which the device is done."""
        with self._lock:
            self._free[block.array.nbytes].append(block)


class Uploads:
    """Host arrays on their way to the device, on one stream; for one thread."""

    def __init__(self, pool: PinnedPool, stream: Stream) -> None:
        """Nothing is under way."""
        self._pool = pool
        self._stream = stream
        self._round: list[Pinned] = []
        self._rounds: deque[tuple[Event, list[Pinned]]] = deque()

    def put(self, array: Array, address: int) -> None:
        """Enqueue an array's copy to an address; the array may be changed on return."""
        content = _bytes(array)
        for begin in range(0, content.nbytes, PIECE):
            if begin:
                self.end_round()
            piece = content[begin : begin + PIECE]
            block = self._pool.take(piece.nbytes)
            block.array[: piece.nbytes] = piece
            self._stream.upload(address + begin, block, piece.nbytes)
            self._round.append(block)

    def put_together(self, arrays: Mapping[int, Array], address: int) -> None:
        """Enqueue the copies of arrays to their offsets behind an address: as one copy, where that
        is no larger than a piece. What lies between the arrays is undefined.
        """
        size = max(offset + array.nbytes for offset, array in arrays.items())
        if size > PIECE:
            for offset, array in arrays.items():
                self.put(array, address + offset)
                self.end_round()
            return
        block = self._pool.take(size)
        for offset, array in arrays.items():
            block.array[offset : offset + array.nbytes] = _bytes(array)
        self._stream.upload(address, block, size)
        self._round.append(block)

    def end_round(self) -> None:
        """End a round of copies; wait for the oldest round beyond `_ROUNDS`. Raises DeviceError."""
        self._rounds.append((self._stream.event(), self._round))
        self._round = []
        self._wait(_ROUNDS)

    def close(self) -> None:
        """Wait for all copies, and give their pinned blocks back. Raises DeviceError."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        while len(self._rounds) > most:
            event, blocks = self._rounds.popleft()
            event.wait()
            for block in blocks:
                self._pool.give_back(block)


def _bytes(array: Array) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def reading(pool: PinnedPool, stream: Stream, buffer: Buffer) -> Callable[[], NDArray[Any]]:
    """Enqueue a buffer's copy to the host; the result waits for the copy, once, in any thread."""
    size = prod(buffer.shape) * buffer.dtype.itemsize
    block = pool.take(size)
    stream.download(block, buffer.memory.address, size)
    event = stream.event()

    def read() -> NDArray[Any]:
        event.wait()
        array: NDArray[Any] = block.array[:size].copy().view(buffer.dtype).reshape(buffer.shape)
        pool.give_back(block)
        return array

    return read

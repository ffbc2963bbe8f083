"""Memory of a launch: its arrays, and a check of each access of each thread."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.ptx.parse import STORED

Numbers = NDArray[Any]
Indices = NDArray[np.int64]

_NOBODY, _SEVERAL = -1, -2


class AccessError(Exception):
    """A wrong access: the place of its thread among those that access, and the reason."""

    def __init__(self, place: int, reason: str) -> None:
        super().__init__(reason)
        self.place = place


@dataclass(frozen=True)
class Array:
    """Memory at an address."""

    name: str
    address: int
    content: NDArray[np.uint8]
    known: bool = True
    """The content may be read before anything is written."""


class Memory:
    """Arrays with addresses, in one or more copies: shared memory has one for each block.

    Arrays are copied at the start; `contents` has what they come to.
    """

    def __init__(self, arrays: list[Array], copies: int = 1) -> None:
        self._arrays = sorted(arrays, key=lambda each: each.address)
        self._begins = np.array([each.address for each in self._arrays], np.uint64)
        self._sizes = np.array([each.content.size for each in self._arrays], np.uint64)
        places, self._bytes = [], 0
        for each in self._arrays:
            places.append(self._bytes + each.address % 16)
            self._bytes += -(-(each.address % 16 + each.content.size) // 16) * 16
        self._places = np.array(places, np.int64)
        one, known = np.zeros(self._bytes, np.uint8), np.zeros(self._bytes, bool)
        for place, each in zip(places, self._arrays, strict=True):
            one[place : place + each.content.size] = each.content
            known[place : place + each.content.size] = each.known
        self._content, self._known = np.tile(one, copies), np.tile(known, copies)
        self._writer = np.full(self._content.size, _NOBODY, np.int64)
        self._reader = np.full(self._content.size, _NOBODY, np.int64)
        self._constant = np.zeros(self._content.size, bool)

    def contents(self) -> Mapping[str, NDArray[np.uint8]]:
        """The arrays of the first copy by name."""
        return {
            each.name: self._content[place : place + each.content.size]
            for place, each in zip(self._places, self._arrays, strict=True)
        }

    def forget_accesses(self, copies: Indices) -> None:
        """Begin anew with the question who reads and writes: a barrier of these copies' threads."""
        for owner in (self._writer, self._reader):
            owner.reshape(-1, self._bytes)[copies] = _NOBODY

    def read(
        self, addresses: Numbers, size: int, count: int, threads: Indices, copies: Indices,
        *, constant: bool = False,
    ) -> list[Numbers]:  # fmt: skip
        """`count` neighbouring numbers of `size` bytes from each address. Raises AccessError.

        `constant` is a read through the cache that does not see writes of the same launch.
        """
        places, within = self._located(addresses, size * count, copies)
        _refuse(~self._known[within], "reads what is not written yet")
        _refuse(_foreign(self._writer[within], threads), "reads what another thread writes")
        if constant:
            self._constant[within] = True
            _refuse(
                self._writer[within] != _NOBODY,
                "reads through the cache for constants what is written",
            )
        reader = self._reader[within]
        self._reader[within] = np.where(_foreign(reader, threads), _SEVERAL, threads[:, None])
        whole = self._content.view(STORED[size])
        return [whole[places // size + i] for i in range(count)]

    def write(
        self, addresses: Numbers, numbers: list[Numbers], threads: Indices, copies: Indices
    ) -> None:
        """Neighbouring numbers to each thread's address. Raises AccessError."""
        size = numbers[0].itemsize
        places, within = self._located(addresses, size * len(numbers), copies)
        _refuse(self._constant[within], "writes what is read through the cache for constants")
        _refuse(_foreign(self._reader[within], threads), "writes what another thread reads")
        _refuse(_foreign(self._writer[within], threads), "writes what another thread writes")
        self._writer[within] = threads[:, None]
        _refuse(self._writer[within] != threads[:, None], "writes what another thread writes")
        self._known[within] = True
        whole = self._content.view(STORED[size])
        for i, each in enumerate(numbers):
            whole[places // size + i] = each

    def _located(self, addresses: Numbers, size: int, copies: Indices) -> tuple[Indices, Indices]:
        """Places of the first bytes, and of all bytes `[threads, size]`."""
        for place in np.flatnonzero(addresses % np.uint64(size))[:1]:
            raise AccessError(
                place, f"{size} bytes at {int(addresses[place]):#x}: not a multiple of {size}"
            )
        array = np.searchsorted(self._begins, addresses, "right") - 1
        behind = addresses - self._begins[array]
        # Of an address in front of all arrays, `behind` is huge, and with `size` may begin anew.
        last = self._sizes[array].astype(np.int64) - size
        inside = (behind < np.uint64(1 << 62)) & (behind.astype(np.int64) <= last)
        for place in np.flatnonzero(~inside)[:1]:
            raise AccessError(place, self._outside(int(addresses[place]), size, int(array[place])))
        places = behind.astype(np.int64) + self._places[array] + copies * self._bytes
        return places, places[:, None] + np.arange(size)

    def _outside(self, address: int, size: int, array: int) -> str:
        near = ""
        if array >= 0:
            before = self._arrays[array]
            near = (
                f"; {before.name} has {before.content.size}, and this is {address - before.address}"
                " behind its begin"
            )
        return f"{size} bytes at {address:#x} are outside of all arrays{near}"


def _foreign(owner: Indices, threads: Indices) -> NDArray[np.bool_]:
    return (owner != _NOBODY) & (owner != threads[:, None])


def _refuse(wrong: NDArray[np.bool_], reason: str) -> None:
    if wrong.any():
        raise AccessError(int(np.flatnonzero(wrong.any(axis=1))[0]), reason)

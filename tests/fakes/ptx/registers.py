"""Registers of all threads."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.ptx.parse import STORED, Register

Numbers = NDArray[Any]
Threads = NDArray[np.int64]


class UnwrittenError(Exception):
    """A thread reads a register that it has not written: the thread's number, and the register."""

    def __init__(self, thread: int, register: str) -> None:
        super().__init__(f"reads {register}, which is not written yet")
        self.thread = thread


class Registers:
    """A number for each thread, or one number where all have the same.

    `at` are the numbers of threads, in order and without repetition.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._numbers: dict[str, Numbers] = {}
        self._written: dict[str, NDArray[np.bool_]] = {}
        """Registers that some threads have written, but not all."""

    def read(self, register: Register, at: Threads) -> Numbers:
        """The threads' numbers, as they are stored. Raises UnwrittenError."""
        numbers = self._numbers.get(register.name)
        if numbers is None:
            raise UnwrittenError(int(at[0]), register.name)
        written = self._written.get(register.name)
        if written is not None and not written[at].all():
            raise UnwrittenError(int(at[~written[at]][0]), register.name)
        return numbers if numbers.size == 1 or at.size == self._count else numbers[at]

    def write(self, register: Register, numbers: Numbers, at: Threads) -> None:
        """Numbers of the register's size, for each of these threads or one for all of them."""
        made = numbers.view(STORED[register.bytes])
        if at.size == self._count:
            self._numbers[register.name] = made
            self._written.pop(register.name, None)
            return
        before = self._numbers.get(register.name)
        if before is None:
            before = np.zeros(1, made.dtype)
            self._written[register.name] = np.zeros(self._count, bool)
        # A copy: other registers may share the array.
        whole = np.empty(self._count, made.dtype)
        whole[:] = before
        whole[at] = made
        self._numbers[register.name] = whole
        if register.name in self._written:
            self._written[register.name][at] = True

    def copy(self, register: Register, source: Register, at: Threads) -> None:
        """`source` as it is: a copy of what is not written yet is no read, but is not written too.

        The compiler makes such copies in front of loops, of what the loop then writes.
        """
        have = at
        if source.name not in self._numbers:
            have = at[:0]
        elif source.name in self._written:
            have = at[self._written[source.name][at]]
        if have.size:
            self.write(register, self.read(source, have), have)
        if have.size < at.size and register.name in self._numbers:
            written = self._written.setdefault(register.name, np.ones(self._count, bool))
            written[np.setdiff1d(at, have)] = False

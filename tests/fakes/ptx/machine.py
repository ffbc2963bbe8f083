"""Runs a kernel of PTX: all threads of a grid at once, each instruction for those that are at it.

Of the threads that can go on, those that are furthest behind do, so that threads meet again behind
a branch. A shuffle waits for its warp and a barrier for its block: where some never come, that is a
fault. Blocks do not wait for each other.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tests.fakes.ptx.memory import AccessError, Array, Memory
from tests.fakes.ptx.operands import State, UnknownError
from tests.fakes.ptx.program import Program
from tests.fakes.ptx.registers import Registers, Threads, UnwrittenError

WARP = 32
MOST_STEPS = 300_000
"""More instructions than any group of threads takes in our kernels."""

_WAITS = -1

Grid = tuple[int, int, int]


class Fault(Exception):
    """A kernel does what a GPU forbids: the kernel, block, thread, instruction and reason."""


def launch(
    program: Program, grid: Grid, threads: int, parameters: bytes, arrays: list[Array]
) -> Mapping[str, NDArray[np.uint8]]:
    """Run a grid of blocks of so many threads; returns what the arrays come to, by name.

    Raises Fault.
    """
    kernel = program.kernel
    if len(parameters) < kernel.parameter_bytes:
        raise Fault(f"{kernel.name}: {len(parameters)} of {kernel.parameter_bytes} bytes are given")
    with np.errstate(all="ignore"):
        memory = Memory(arrays)
        _Machine(program, grid, threads, parameters, memory).run()
        return memory.contents()


class _Machine:
    def __init__(
        self, program: Program, grid: Grid, threads: int, parameters: bytes, memory: Memory
    ) -> None:
        x, y, z = grid
        every = np.arange(x * y * z * threads)
        self._kernel, self._steps, self._end = program.kernel, program.steps, program.end
        self._meetings, self._straight = program.meetings, program.straight
        self._grid, self._threads = grid, threads
        self._block, self._thread = every // threads, every % threads
        self._warp = self._block * -(-threads // WARP) + self._thread // WARP
        shared = [
            Array(name, block.begin, np.zeros(block.bytes, np.uint8), known=False)
            for name, block in self._kernel.shared.items()
        ]
        self._state = State(
            Registers(every.size), self._specials(), np.frombuffer(parameters, np.uint8),
            memory, Memory(shared, x * y * z), self._block,
        )  # fmt: skip
        self._next = np.zeros(every.size, np.int64)
        """The number of each thread's next instruction."""
        self._waiting = np.zeros(every.size, bool)
        self._taken = 0

    def run(self) -> None:
        while True:
            places = np.where(self._waiting, self._end, self._next)
            here = int(places.min())
            if here < self._end:
                ahead = places[places > here]
                until = int(ahead.min()) if ahead.size else self._end
                self._go_on(np.flatnonzero(places == here), here, until)
            elif self._waiting.any():
                self._end_waiting()
            else:
                return

    def _specials(self) -> dict[str, NDArray[np.uint32]]:
        x, y, z = self._grid
        numbers = {
            "%tid.x": self._thread, "%ctaid.x": self._block % x, "%ctaid.y": self._block // x % y,
            "%ctaid.z": self._block // (x * y), "%ntid.x": [self._threads],
            "%nctaid.x": [x], "%nctaid.y": [y], "%nctaid.z": [z],
        }  # fmt: skip
        return {name: np.array(each, np.uint32) for name, each in numbers.items()}

    def _go_on(self, at: Threads, here: int, until: int) -> None:
        """Let these threads go on until they part, wait, or meet others."""
        while here < until:
            here = self._straight_on(at, here, until)
            if here == until:
                break
            self._taken += 1
            if self._taken > MOST_STEPS:
                raise self._fault(here, int(at[0]), "comes to no end")
            takers = self._takers(at, here)
            then = self._take(takers, here) if takers.size else here + 1
            if then == _WAITS or (then != here + 1 and takers.size < at.size):
                self._next[at] = here + 1
                self._next[takers] = here if then == _WAITS else then
                self._waiting[takers] = then == _WAITS
                return
            here = then
        self._next[at] = here

    def _straight_on(self, at: Threads, here: int, until: int) -> int:
        """Take what asks for no decision; returns the number of the instruction behind."""
        stop = min(self._straight[here], until)
        self._taken += stop - here
        for place in range(here, stop):
            self._run(at, place)
        return stop

    def _takers(self, at: Threads, here: int) -> Threads:
        """The threads whose predicate lets them take the instruction."""
        instruction = self._kernel.instructions[here]
        if instruction.guard is None:
            return at
        try:
            takes = self._state.registers.read(instruction.guard, at) != instruction.negated
        except UnwrittenError as error:
            raise self._fault(here, error.thread, str(error)) from None
        return at[np.broadcast_to(takes, at.shape)]

    def _take(self, at: Threads, here: int) -> int:
        """The number of the instruction behind; _WAITS where others have to come first."""
        step = self._steps[here]
        if isinstance(step, int):
            return step
        if here in self._meetings and self._missing(at, here).any():
            return _WAITS
        self._run(at, here)
        return here + 1

    def _missing(self, at: Threads, here: int) -> NDArray[np.bool_]:
        """For each of these threads, true where others have to come to the instruction too."""
        if self._kernel.instructions[here].code == "bar.sync":
            group, all_of_it = self._block[at], self._threads
        else:
            group, all_of_it = self._warp[at], WARP
        missing: NDArray[np.bool_] = np.bincount(group)[group] < all_of_it
        return missing

    def _end_waiting(self) -> None:
        """Let go on who waits for nobody any more; nobody else can go on now."""
        ended = False
        for here in np.unique(self._next[self._waiting]):
            at = np.flatnonzero(self._waiting & (self._next == here))
            at = at[~self._missing(at, here)]
            if at.size:
                self._run(at, here)
                self._waiting[at], self._next[at] = False, here + 1
                ended = True
        if not ended:
            first = int(np.flatnonzero(self._waiting)[0])
            raise self._fault(int(self._next[first]), first, self._why(first))

    def _why(self, thread: int) -> str:
        """The reason why a thread waits for ever."""
        at = self._kernel.instructions[self._next[thread]]
        group = self._block if at.code == "bar.sync" else self._warp
        others = (group == group[thread]) & (self._next != self._next[thread])
        for other in np.flatnonzero(others)[:1]:
            place = self._next[other]
            there = (
                f"is at {self._kernel.instructions[place].text}" if place < self._end else "ended"
            )
            return f"waits for thread {self._thread[other]}, which {there}"
        return f"is in a warp of less than {WARP} threads"

    def _run(self, at: Threads, here: int) -> None:
        step = self._steps[here]
        assert not isinstance(step, int)
        try:
            step(self._state, at)
        except UnwrittenError as error:
            raise self._fault(here, error.thread, str(error)) from None
        except AccessError as error:
            raise self._fault(here, int(at[error.place]), str(error)) from None
        except UnknownError:
            raise self._fault(here, int(at[0]), "is not known here with these numbers") from None

    def _fault(self, here: int, thread: int, reason: str) -> Fault:
        x, y, _ = self._grid
        block = int(self._block[thread])
        place = block % x, block // x % y, block // (x * y)
        return Fault(
            f"{self._kernel.name}: block {place}, thread {self._thread[thread]}: "
            f"{self._kernel.instructions[here].text} {reason}"
        )

"""Operands of PTX's instructions, as a launch reads them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.ptx.arithmetic import KINDS
from tests.fakes.ptx.memory import Memory
from tests.fakes.ptx.parse import (
    STORED,
    Address,
    Kernel,
    Number,
    Operand,
    Register,
    Special,
    Symbol,
    Vector,
)
from tests.fakes.ptx.registers import Registers, Threads

Numbers = NDArray[Any]


@dataclass(frozen=True)
class State:
    """The registers and the memory of a launch's threads."""

    registers: Registers
    specials: Mapping[str, Numbers]
    """The numbers of the launch for each thread, or one for all."""
    parameters: NDArray[np.uint8]
    memory: Memory
    shared: Memory
    blocks: Threads
    """The number of each thread's block, which is its copy of shared memory."""


Reader = Callable[[State, Threads], Numbers]


class UnknownError(Exception):
    """An instruction, or a form of one, that is not known here."""


def address_of(address: Address, kernel: Kernel) -> Reader:
    """Each thread's address. Raises UnknownError."""
    if isinstance(address.base, Symbol):
        block = kernel.shared.get(address.base.name)
        if block is None:
            raise UnknownError
        base = reader_of(Number(block.begin), "u64")
    else:
        base = reader_of(address.base, "u64")
    offset = np.array([address.offset % (1 << 64)], np.uint64)
    return lambda state, at: np.broadcast_to(base(state, at) + offset, at.shape)


def reader_of(operand: Operand, kind: str) -> Reader:
    """Numbers of a type: each thread's, or one for all. Raises UnknownError."""
    dtype = dtype_of(kind)
    match operand:
        case Register(_, size) if size == dtype.itemsize:
            return lambda state, at: state.registers.read(operand, at).view(dtype)
        case Number(bits):
            size = dtype.itemsize
            constant = np.array([bits % (1 << 8 * size)], STORED[size]).view(dtype)
            return lambda _state, _at: constant
        case Special(name) if dtype.itemsize == 4:
            return lambda state, at: _special(state.specials[name], at).view(dtype)
    raise UnknownError


def _special(numbers: Numbers, at: Threads) -> Numbers:
    return numbers if numbers.size == 1 else numbers[at]


def targets_of(into: Operand) -> list[Register]:
    """The registers that an instruction writes. Raises UnknownError."""
    parts = into.parts if isinstance(into, Vector) else (into,)
    targets = [part for part in parts if isinstance(part, Register)]
    if len(targets) != len(parts):
        raise UnknownError
    return targets


def dtype_of(kind: str) -> np.dtype:
    """NumPy's type for one of PTX. Raises UnknownError."""
    if kind not in KINDS:
        raise UnknownError
    return KINDS[kind]


def count_of(way: Sequence[str]) -> int:
    """The numbers of an access by its last modifier, `v4` or none. Raises UnknownError."""
    counts = {(): 1, ("v2",): 2, ("v4",): 4}
    if tuple(way) not in counts:
        raise UnknownError
    return counts[tuple(way)]

"""Instructions of PTX as functions: of a launch's state, and of the threads that take them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.ptx.arithmetic import KINDS, operation
from tests.fakes.ptx.memory import Memory
from tests.fakes.ptx.parse import (
    STORED,
    Address,
    Block,
    Instruction,
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


Step = Callable[[State, Threads], None]
_Reader = Callable[[State, Threads], Numbers]


class UnknownError(Exception):
    """An instruction, or a form of one, that is not known here."""


def step_of(instruction: Instruction, kernel: Kernel) -> Step:
    """The step of an instruction that does not say how threads go on. Raises UnknownError.

    The step raises UnwrittenError, AccessError, and UnknownError where numbers decide.
    """
    name, *modifiers = instruction.code.split(".")
    match name, modifiers, instruction.operands:
        case "bar", ["sync"], [Number(0)]:
            return lambda state, at: state.shared.forget_accesses(np.unique(state.blocks[at]))
        case "shfl", ["sync", "bfly"], [into, *sources]:
            return _exchange(into, sources)
        case "ld" | "st", _, _:
            return _access(instruction, kernel)
        case "mov", [], [into, source]:
            return _move(into, source, _dtype(instruction.kind), kernel)
        case _, _, [Register() as into, *sources]:
            return _compute(instruction, into, sources)
    raise UnknownError


def _access(instruction: Instruction, kernel: Kernel) -> Step:
    dtype = _dtype(instruction.kind)
    # Advice to the first cache says nothing of what is read.
    name, *modifiers = instruction.code.replace(".L1::no_allocate", "").split(".")
    match name, modifiers, instruction.operands:
        case "ld", ["param", *way], [into, Address(Symbol(base), offset)]:
            return _parameter(into, kernel.parameters.get(base), offset, _count(way), dtype)
        case "ld", ["global", "nc", *way], [into, Address() as address]:
            return _load(into, _address(address, kernel), _count(way), dtype, "constant")
        case "ld", ["global" | "shared" as space, *way], [into, Address() as address]:
            return _load(into, _address(address, kernel), _count(way), dtype, space)
        case "st", ["global" | "shared" as space, *way], [Address() as address, source]:
            return _store(source, _address(address, kernel), _count(way), dtype, space)
    raise UnknownError


def _compute(instruction: Instruction, target: Register, sources: Sequence[Operand]) -> Step:
    found = operation(instruction.code, instruction.kind)
    if found is None or len(found.sources) != len(sources):
        raise UnknownError
    readers = [_reader(*each) for each in zip(sources, found.sources, strict=True)]
    function = found.function
    if function(*(np.ones(1, _dtype(kind)) for kind in found.sources)).itemsize != target.bytes:
        raise UnknownError

    def step(state: State, at: Threads) -> None:
        state.registers.write(target, function(*[read(state, at) for read in readers]), at)

    return step


def _exchange(into: Operand, sources: Sequence[Operand]) -> Step:
    """`shfl.sync.bfly` of whole warps that are all there."""
    read, *by = [_reader(each, "b32") for each in sources]
    targets = _targets(into)

    def step(state: State, at: Threads) -> None:
        given = [each(state, at) for each in by]
        apart, bound, everyone = (int(each[0]) for each in given)
        same = all((each == each[0]).all() for each in given)
        if not same or apart > 31 or (bound, everyone) != (31, 0xFFFFFFFF):
            raise UnknownError
        numbers = np.broadcast_to(read(state, at), at.shape).reshape(-1, 32)
        exchanged = numbers[:, np.arange(32) ^ apart].reshape(-1)
        there = [np.ones(1, bool)] * (len(targets) - 1)
        _write(state, targets, [exchanged, *there], at)

    return step


def _parameter(
    into: Operand, block: Block | None, offset: int, count: int, dtype: np.dtype
) -> Step:
    size, targets = count * dtype.itemsize, _targets(into)
    if block is None or offset % size or not 0 <= offset <= block.bytes - size:
        raise UnknownError
    place = slice(block.begin + offset, block.begin + offset + size)

    def step(state: State, at: Threads) -> None:
        numbers = state.parameters[place].view(dtype).reshape(count, 1)
        _write(state, targets, list(numbers), at)

    return step


def _load(into: Operand, address: _Reader, count: int, dtype: np.dtype, space: str) -> Step:
    targets = _targets(into)
    # A wider register gets zeros, or the sign, in its high bits.
    wide = np.dtype(f"{dtype.kind}{targets[0].bytes}") if dtype.kind in "ui" else dtype

    def step(state: State, at: Threads) -> None:
        memory, copies = _memory(state, space, at)
        found = memory.read(
            address(state, at), dtype.itemsize, count, at, copies, constant=space == "constant"
        )
        _write(state, targets, [each.view(dtype).astype(wide) for each in found], at)

    return step


def _store(source: Operand, address: _Reader, count: int, dtype: np.dtype, space: str) -> Step:
    stored = STORED[dtype.itemsize]
    parts = source.parts if isinstance(source, Vector) else (source,)
    if len(parts) != count:
        raise UnknownError
    # Of a wider register, its low bits.
    kinds = [
        f"b{8 * each.bytes}" if isinstance(each, Register) else f"b{8 * stored.itemsize}"
        for each in parts
    ]
    readers = [_reader(*each) for each in zip(parts, kinds, strict=True)]

    def step(state: State, at: Threads) -> None:
        memory, copies = _memory(state, space, at)
        numbers = [read(state, at).astype(stored) for read in readers]
        memory.write(address(state, at), numbers, at, copies)

    return step


def _move(into: Operand, source: Operand, dtype: np.dtype, kernel: Kernel) -> Step:
    match into, source:
        case Register(_, size), Register(_, same) if size == same == dtype.itemsize:
            return lambda state, at: state.registers.copy(into, source, at)
        case _, Vector(parts):
            return _join(into, parts, dtype)
        case _, Symbol(name) if name in kernel.shared:
            source = Number(kernel.shared[name].begin)
    (target,), read = _targets(into), _reader(source, f"b{8 * dtype.itemsize}")
    return lambda state, at: state.registers.write(target, read(state, at), at)


def _join(into: Operand, parts: Sequence[Operand], dtype: np.dtype) -> Step:
    """The first part has the lowest bits."""
    bits = 8 * dtype.itemsize // len(parts)
    readers = [_reader(part, f"b{bits}") for part in parts]
    targets = _targets(into)

    def step(state: State, at: Threads) -> None:
        made = np.zeros(1, dtype)
        for i, read in enumerate(readers):
            made = made | read(state, at).astype(dtype) << dtype.type(i * bits)
        _write(state, targets, [made], at)

    return step


def _memory(state: State, space: str, at: Threads) -> tuple[Memory, Threads]:
    if space == "shared":
        return state.shared, state.blocks[at]
    return state.memory, np.zeros(1, np.int64)


def _address(address: Address, kernel: Kernel) -> _Reader:
    if isinstance(address.base, Symbol):
        block = kernel.shared.get(address.base.name)
        if block is None:
            raise UnknownError
        base = _reader(Number(block.begin), "u64")
    else:
        base = _reader(address.base, "u64")
    offset = np.array([address.offset % (1 << 64)], np.uint64)
    return lambda state, at: np.broadcast_to(base(state, at) + offset, at.shape)


def _reader(operand: Operand, kind: str) -> _Reader:
    dtype = _dtype(kind)
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


def _targets(into: Operand) -> list[Register]:
    parts = into.parts if isinstance(into, Vector) else (into,)
    targets = [part for part in parts if isinstance(part, Register)]
    if len(targets) != len(parts):
        raise UnknownError
    return targets


def _write(
    state: State, targets: Sequence[Register], numbers: Sequence[Numbers], at: Threads
) -> None:
    for target, each in zip(targets, numbers, strict=True):
        if target.bytes != each.dtype.itemsize:
            raise UnknownError
        state.registers.write(target, each, at)


def _dtype(kind: str) -> np.dtype:
    if kind not in KINDS:
        raise UnknownError
    return KINDS[kind]


def _count(way: Sequence[str]) -> int:
    counts = {(): 1, ("v2",): 2, ("v4",): 4}
    if tuple(way) not in counts:
        raise UnknownError
    return counts[tuple(way)]

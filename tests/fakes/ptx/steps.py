"""Instructions of PTX as functions: of a launch's state, and of the threads that take them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.ptx.arithmetic import operation
from tests.fakes.ptx.memory import Memory
from tests.fakes.ptx.operands import (
    Reader,
    State,
    UnknownError,
    address_of,
    count_of,
    dtype_of,
    reader_of,
    targets_of,
)
from tests.fakes.ptx.parse import (
    STORED,
    Address,
    Block,
    Instruction,
    Kernel,
    Number,
    Operand,
    Register,
    Symbol,
    Vector,
)
from tests.fakes.ptx.registers import Threads

Numbers = NDArray[Any]


Step = Callable[[State, Threads], None]


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
            return _move(into, source, dtype_of(instruction.kind), kernel)
        case _, _, [Register() as into, *sources]:
            return _compute(instruction, into, sources)
    raise UnknownError


def _access(instruction: Instruction, kernel: Kernel) -> Step:
    dtype = dtype_of(instruction.kind)
    # Advice to the first cache says nothing of what is read.
    name, *modifiers = instruction.code.replace(".L1::no_allocate", "").split(".")
    match name, modifiers, instruction.operands:
        case "ld", ["param", *way], [into, Address(Symbol(base), offset)]:
            return _parameter(into, kernel.parameters.get(base), offset, count_of(way), dtype)
        case "ld", ["global", "nc", *way], [into, Address() as address]:
            return _load(into, address_of(address, kernel), count_of(way), dtype, "constant")
        case "ld", ["global" | "shared" as space, *way], [into, Address() as address]:
            return _load(into, address_of(address, kernel), count_of(way), dtype, space)
        case "st", ["global" | "shared" as space, *way], [Address() as address, source]:
            return _store(source, address_of(address, kernel), count_of(way), dtype, space)
    raise UnknownError


def _compute(instruction: Instruction, target: Register, sources: Sequence[Operand]) -> Step:
    found = operation(instruction.code, instruction.kind)
    if found is None or len(found.sources) != len(sources):
        raise UnknownError
    readers = [reader_of(*each) for each in zip(sources, found.sources, strict=True)]
    function = found.function
    if function(*(np.ones(1, dtype_of(kind)) for kind in found.sources)).itemsize != target.bytes:
        raise UnknownError

    def step(state: State, at: Threads) -> None:
        state.registers.write(target, function(*[read(state, at) for read in readers]), at)

    return step


def _exchange(into: Operand, sources: Sequence[Operand]) -> Step:
    """`shfl.sync.bfly` of whole warps that are all there."""
    read, *by = [reader_of(each, "b32") for each in sources]
    targets = targets_of(into)

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
    size, targets = count * dtype.itemsize, targets_of(into)
    if block is None or offset % size or not 0 <= offset <= block.bytes - size:
        raise UnknownError
    place = slice(block.begin + offset, block.begin + offset + size)

    def step(state: State, at: Threads) -> None:
        numbers = state.parameters[place].view(dtype).reshape(count, 1)
        _write(state, targets, list(numbers), at)

    return step


def _load(into: Operand, address: Reader, count: int, dtype: np.dtype, space: str) -> Step:
    targets = targets_of(into)
    # A wider register gets zeros, or the sign, in its high bits.
    wide = np.dtype(f"{dtype.kind}{targets[0].bytes}") if dtype.kind in "ui" else dtype

    def step(state: State, at: Threads) -> None:
        memory, copies = _memory(state, space, at)
        found = memory.read(
            address(state, at), dtype.itemsize, count, at, copies, constant=space == "constant"
        )
        _write(state, targets, [each.view(dtype).astype(wide) for each in found], at)

    return step


def _store(source: Operand, address: Reader, count: int, dtype: np.dtype, space: str) -> Step:
    stored = STORED[dtype.itemsize]
    parts = source.parts if isinstance(source, Vector) else (source,)
    if len(parts) != count:
        raise UnknownError
    # Of a wider register, its low bits.
    kinds = [
        f"b{8 * each.bytes}" if isinstance(each, Register) else f"b{8 * stored.itemsize}"
        for each in parts
    ]
    readers = [reader_of(*each) for each in zip(parts, kinds, strict=True)]

    def step(state: State, at: Threads) -> None:
        memory, copies = _memory(state, space, at)
        numbers = [read(state, at).astype(stored) for read in readers]
        memory.write(address(state, at), numbers, at, copies)

    return step


def _move(into: Operand, source: Operand, dtype: np.dtype, kernel: Kernel) -> Step:
    match into, source:
        case Register() as target, Register() as copied if (
            target.bytes == copied.bytes == dtype.itemsize
        ):
            return lambda state, at: state.registers.copy(target, copied, at)
        case _, Vector(parts):
            return _join(into, parts, dtype)
        case _, Symbol(name) if name in kernel.shared:
            source = Number(kernel.shared[name].begin)
    (target,), read = targets_of(into), reader_of(source, f"b{8 * dtype.itemsize}")
    return lambda state, at: state.registers.write(target, read(state, at), at)


def _join(into: Operand, parts: Sequence[Operand], dtype: np.dtype) -> Step:
    """The first part has the lowest bits."""
    bits = 8 * dtype.itemsize // len(parts)
    readers = [reader_of(part, f"b{bits}") for part in parts]
    targets = targets_of(into)

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


def _write(
    state: State, targets: Sequence[Register], numbers: Sequence[Numbers], at: Threads
) -> None:
    for target, each in zip(targets, numbers, strict=True):
        if target.bytes != each.dtype.itemsize:
            raise UnknownError
        state.registers.write(target, each, at)

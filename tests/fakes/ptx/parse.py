"""PTX's text: its kernels with their registers, parameters, shared arrays and instructions.

https://docs.nvidia.com/cuda/parallel-thread-execution/ names what there is; of that, the parser
knows what NVIDIA's run-time compiler writes for our kernels.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

STORED = {1: np.dtype(bool), 2: np.dtype("u2"), 4: np.dtype("u4"), 8: np.dtype("u8")}
"""How a register lies here, by its bytes; a predicate is a byte."""

_SIZES = {"pred": 1, "b16": 2, "b32": 4, "f32": 4, "b64": 8, "b8": 1, "u32": 4, "u64": 8, "s32": 4}


class PtxError(Exception):
    """Text that is no PTX, or more of PTX than is known here: the line."""


@dataclass(frozen=True, slots=True)
class Register:
    """A thread's own number."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Special:
    """A number of the launch, such as `%tid.x`."""

    name: str


@dataclass(frozen=True, slots=True)
class Number:
    """An immediate; of a float, its bits."""

    bits: int


@dataclass(frozen=True, slots=True)
class Address:
    """A place in memory: so many bytes behind what the base says."""

    base: "Register | Symbol"
    offset: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """The name of a label, a parameter or a shared array."""

    name: str


@dataclass(frozen=True, slots=True)
class Vector:
    """Several operands as one."""

    parts: tuple["Operand", ...]


Operand = Register | Special | Number | Address | Symbol | Vector


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a kernel."""

    text: str
    code: str
    """`fma.rn`, of `fma.rn.f32`; `bra`."""
    kind: str
    """`f32`; empty without a type."""
    operands: tuple[Operand, ...]
    guard: Register | None
    """The predicate that says which threads take the instruction."""
    negated: bool


@dataclass(frozen=True, slots=True)
class Block:
    """An array in a kernel's parameters or in its shared memory: where it begins, and its bytes."""

    begin: int
    bytes: int


@dataclass
class Kernel:
    """An entry of a module."""

    name: str
    parameters: dict[str, Block] = field(default_factory=dict)
    shared: dict[str, Block] = field(default_factory=dict)
    registers: dict[str, int] = field(default_factory=dict)
    """The bytes of each register."""
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    @property
    def parameter_bytes(self) -> int:
        """The bytes of all parameters."""
        return max((each.begin + each.bytes for each in self.parameters.values()), default=0)


def kernels_of(text: str) -> dict[str, Kernel]:
    """The kernels of a module by name. Raises PtxError."""
    found: dict[str, Kernel] = {}
    shared: dict[str, Block] = {}
    lines = iter(re.sub(r"//.*", "", text).splitlines())
    for line in lines:
        if entry := re.match(r"\s*(?:\.visible )?\.entry (\w+)\(", line):
            kernel = found[entry[1]] = Kernel(entry[1], shared=dict(shared))
            _read_parameters(kernel, lines)
            _read_body(kernel, lines)
        elif ".shared" in line:
            _read_shared(shared, line)
        elif line.strip() and not re.match(r"\.(version|target|address_size|global) ", line):
            raise PtxError(f"outside of a kernel: {line.strip()}")
    return found


def _read_parameters(kernel: Kernel, lines: Iterator[str]) -> None:
    end = 0
    for line in lines:
        if line.strip() == ")":
            return
        match = re.fullmatch(r"\s*\.param (?:\.align (\d+) )?\.(\w+) (\w+)(?:\[(\d+)\])?,?", line)
        if not match:
            raise PtxError(f"{kernel.name}: no parameter: {line.strip()}")
        size = _SIZES[match[2]]
        alignment = int(match[1] or size)
        begin = -(-end // alignment) * alignment
        kernel.parameters[match[3]] = Block(begin, size * int(match[4] or 1))
        end = begin + size * int(match[4] or 1)


def _read_shared(shared: dict[str, Block], line: str) -> None:
    match = re.fullmatch(r"\s*\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\];", line)
    if not match:
        raise PtxError(f"no shared array: {line.strip()}")
    # A gap between arrays, so that what leaves one does not end in the next.
    last = max((each.begin + each.bytes for each in shared.values()), default=0)
    shared[match[2]] = Block(-(-last // 16) * 16 + 16, int(match[3]))


def _read_body(kernel: Kernel, lines: Iterator[str]) -> None:
    for line in map(str.strip, lines):
        if line == "}":
            return
        if line.startswith(".shared"):
            _read_shared(kernel.shared, line)
        elif registers := re.fullmatch(r"\.reg \.(\w+)\s+(%[a-z]+)<(\d+)>;", line):
            for i in range(int(registers[3])):
                kernel.registers[f"{registers[2]}{i}"] = _SIZES[registers[1]]
        elif label := re.fullmatch(r"(\$?\w+):", line):
            kernel.labels[label[1]] = len(kernel.instructions)
        elif line not in ("", "{") and not line.startswith((".pragma", ".maxntid")):
            kernel.instructions.append(_instruction(kernel, line))
    raise PtxError(f"{kernel.name}: no end")


def _instruction(kernel: Kernel, line: str) -> Instruction:
    match = re.fullmatch(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.:]*)\s*(.*);", line)
    if not match:
        raise PtxError(f"{kernel.name}: no instruction: {line}")
    code, _, kind = match[3].rpartition(".")
    if not re.fullmatch(r"[busf]\d+(x2)?|pred", kind):
        code, kind = match[3], ""
    texts = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", match[4])
    try:
        operands = tuple(_operand(each, kernel.registers) for each in texts)
        guard = _operand(match[2], kernel.registers) if match[2] else None
    except PtxError as error:
        raise PtxError(f"{kernel.name}: {line}: {error}") from None
    assert guard is None or isinstance(guard, Register)
    return Instruction(" ".join(line.split()), code, kind, operands, guard, bool(match[1]))


def _operand(text: str, registers: Mapping[str, int]) -> Operand:
    made: Operand | None = None
    if text[0] == "{" or "|" in text:
        parts = re.split(r"[,|]", text.strip("{}"))
        made = Vector(tuple(_operand(part.strip(), registers) for part in parts))
    elif text[0] == "[":
        base, _, offset = text[1:-1].partition("+")
        found = _operand(base.strip(), registers)
        made = Address(found, int(offset or 0)) if isinstance(found, Register | Symbol) else None
    elif text in registers:
        made = Register(text, registers[text])
    elif re.fullmatch(r"%(n?tid|n?ctaid)\.[xyz]", text):
        made = Special(text)
    elif re.fullmatch(r"0[fFxX][0-9A-Fa-f]+", text):
        made = Number(int(text[2:], 16))
    elif re.fullmatch(r"-?\d+", text):
        made = Number(int(text))
    elif re.fullmatch(r"[$_A-Za-z]\w*", text):
        made = Symbol(text)
    if made is None:
        raise PtxError(f"unknown operand {text}")
    return made

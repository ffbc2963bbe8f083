"""PTX's arithmetic on arrays: an element a thread.

Instructions that are approximate on a GPU are exact here, but for their treatment of subnormals,
and for `tanh`, which is as wrong as a GPU's may be.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]

KINDS = {
    "pred": np.dtype(bool), "f16": np.dtype("f2"), "f32": np.dtype("f4"), "bf16": np.dtype("u2"),
    "b16": np.dtype("u2"), "b32": np.dtype("u4"), "b64": np.dtype("u8"), "bf16x2": np.dtype("u4"),
    **{f"{letter}{8 * size}": np.dtype(f"{letter.replace('s', 'i')}{size}")
       for letter in "us" for size in (2, 4, 8)},
}  # fmt: skip
"""The types of instructions as NumPy's."""


@dataclass(frozen=True)
class Operation:
    """An instruction without memory: its function, and the types of its sources in order."""

    function: Callable[..., Any]
    sources: tuple[str, ...]


def operation(code: str, kind: str) -> Operation | None:
    """The computation of an instruction; None for one that is not known."""
    name, _, way = code.partition(".")
    if name == "cvt":
        return _conversion(way, kind)
    if name == "setp":
        return _comparison(way, kind)
    if name in ("shl", "shr"):
        return Operation({"shl": _left, "shr": _right}[name], (kind, "u32")) if not way else None
    if code == "selp":
        return Operation(lambda a, b, which: np.where(which, a, b), (kind, kind, "pred"))
    table = _FLOATS if kind == "f32" else _INTEGERS if kind != "pred" else _PREDICATES
    found = table.get(code)
    return Operation(found[0], (kind,) * found[1]) if found else None


def _same(a: Numbers) -> Numbers:
    return a


def _left(a: Numbers, by: Numbers) -> Numbers:
    bits = a.dtype.itemsize * 8
    return np.where(by < bits, a << np.minimum(by, bits - 1).astype(a.dtype), 0).astype(a.dtype)


def _right(a: Numbers, by: Numbers) -> Numbers:
    bits = a.dtype.itemsize * 8
    made = a >> np.minimum(by, bits - 1).astype(a.dtype)
    return made if a.dtype.kind == "i" else np.where(by < bits, made, 0).astype(a.dtype)


def _wide(a: Numbers, b: Numbers) -> Numbers:
    twice = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
    return a.astype(twice) * b.astype(twice)


def _fused(a: Numbers, b: Numbers, c: Numbers) -> Numbers:
    return (a.astype("f8") * b.astype("f8") + c.astype("f8")).astype("f4")


def _flushed(a: Numbers) -> Numbers:
    return np.where(np.abs(a) < np.finfo("f4").tiny, np.copysign(np.float32(0), a), a)


def _exponential(a: Numbers) -> Numbers:
    return _flushed(np.exp2(_flushed(a)))


def _inverse(a: Numbers) -> Numbers:
    return _flushed(np.float32(1) / _flushed(a))


def _tangent(a: Numbers) -> Numbers:
    """Off by 2^-11 of the result, which is PTX's bound, and to either side."""
    side = np.where(a.view("u4") & np.uint32(1 << 16), np.float32(1), np.float32(-1))
    return (np.tanh(a) * (1 + side * np.float32(2**-11))).astype("f4")


def _rounded_to_bf16(a: Numbers) -> Numbers:
    bits = a.view("u4")
    made = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(a), 0x7FFF, made).astype("u2")


def _pair_of_bf16(high: Numbers, low: Numbers) -> Numbers:
    return _rounded_to_bf16(low) | _rounded_to_bf16(high).astype("u4") << np.uint32(16)


_FLOATS: Mapping[str, tuple[Callable[..., Numbers], int]] = {
    "mov": (_same, 1), "add": (np.add, 2), "sub": (np.subtract, 2), "mul": (np.multiply, 2),
    "fma.rn": (_fused, 3), "div.rn": (np.divide, 2), "neg": (np.negative, 1), "abs": (np.abs, 1),
    "ex2.approx.ftz": (_exponential, 1), "rcp.approx.ftz": (_inverse, 1),
    "tanh.approx": (_tangent, 1), "rsqrt.approx": (lambda a: np.float32(1) / np.sqrt(a), 1),
}  # fmt: skip

_INTEGERS: Mapping[str, tuple[Callable[..., Numbers], int]] = {
    "mov": (_same, 1), "cvta.to.global": (_same, 1), "add": (np.add, 2), "sub": (np.subtract, 2),
    "mul.lo": (np.multiply, 2), "mul.wide": (_wide, 2), "mad.lo": (lambda a, b, c: a * b + c, 3),
    "rem": (np.fmod, 2), "neg": (np.negative, 1), "and": (np.bitwise_and, 2),
    "or": (np.bitwise_or, 2), "xor": (np.bitwise_xor, 2), "not": (np.invert, 1),
}  # fmt: skip

_PREDICATES: Mapping[str, tuple[Callable[..., Numbers], int]] = {
    "mov": (_same, 1), "and": (np.logical_and, 2), "or": (np.logical_or, 2),
    "xor": (np.logical_xor, 2), "not": (np.logical_not, 1),
}  # fmt: skip

_ORDERED: Mapping[str, Callable[..., Numbers]] = {
    "eq": np.equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "ne": lambda a, b: (a < b) | (a > b),
}  # fmt: skip
_OPPOSITE = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}


def _comparison(way: str, kind: str) -> Operation | None:
    function = _ORDERED.get(way)
    if kind == "f32" and way.endswith("u") and way[:-1] in _OPPOSITE:
        # True where one of both is no number.
        opposite = _ORDERED[_OPPOSITE[way[:-1]]]
        function = partial(lambda found, a, b: ~found(a, b), opposite)
    if kind == "f32" and way == "nan":
        function = lambda a, b: np.isnan(a) | np.isnan(b)  # noqa: E731
    return Operation(function, (kind, kind)) if function else None


def _conversion(way: str, kind: str) -> Operation | None:
    """From `kind`; `way` is the rounding, if any, and the type of the result."""
    if (way, kind) in (("rn.f16", "f32"), ("f32", "f16"), ("rn.f32", "s32")):
        return Operation(lambda a: a.astype(KINDS[way.removeprefix("rn.")]), (kind,))
    if (way, kind) == ("rn.bf16", "f32"):
        return Operation(_rounded_to_bf16, (kind,))
    if (way, kind) == ("rn.bf16x2", "f32"):
        return Operation(_pair_of_bf16, (kind, kind))
    if way[:1] in ("u", "s") and kind[:1] in ("u", "s") and way in KINDS:
        return Operation(lambda a: a.astype(KINDS[way]), (kind,))
    return None

"""Our operators for ONNX Runtime in NumPy, as their definition says, in fp64.

Rows are `[R, S, C]`. A result is not rounded, but for the sum, which
the norm behind it reads as it is stored.
"""

from collections.abc import Callable, Sequence
from math import erf, pi, sqrt

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating]
Given = Sequence[Numbers | None]
"""The inputs of an operator in their order; None, and what is missing at the end, is left out."""

Round = Callable[[Numbers], Numbers]


def gated_sum_norm(
    given: Given,
    *,
    norm: str,
    epsilon: float,
    branch_epsilon: float = 0.0,
    gate_tanh: int = 0,
    rounded: Round,
) -> tuple[Numbers, Numbers]:
    """The normed rows, and the sum."""
    x, branch, bias, branch_weight, gate, weight, scale, shift = _padded(given, 8)
    assert x is not None
    total = x.astype(np.float64)
    if branch is not None:
        added = branch.astype(np.float64) + (0 if bias is None else bias)
        if branch_weight is not None:
            added = _rms(added, branch_epsilon) * branch_weight
        if gate is not None:
            rows = gate.reshape(-1, 1, gate.shape[-1]).astype(np.float64)
            added = added * (np.tanh(rows) if gate_tanh else rows)
        total = rounded(total + added).astype(np.float64)
    centred = total - total.mean(-1, keepdims=True) if norm == "layer" else total
    made = _rms(centred, epsilon) * (1 if weight is None else weight)
    if scale is not None:
        made = made * (1.0 + scale.reshape(-1, 1, scale.shape[-1]))
    if shift is not None:
        made = made + shift.reshape(-1, 1, shift.shape[-1])
    return made, total


def rotated_heads(
    given: Given,
    *,
    heads: int,
    epsilon: float = 0.0,
    halves: int = 0,
) -> Numbers:
    """The heads of both streams."""
    first, bias, weight, second, second_bias, second_weight, cosines, sines = _padded(given, 8)
    assert first is not None
    parts = [_heads(first, bias, weight, heads, epsilon)]
    if second is not None:
        parts.append(_heads(second, second_bias, second_weight, heads, epsilon))
    x = np.concatenate(parts, axis=1)
    if cosines is not None and sines is not None:
        x = _turned(x, cosines[:, :, None], sines[:, :, None], bool(halves))
    return x.reshape(*x.shape[:2], first.shape[-1])


def gated_activation(
    given: Given,
    *,
    activation: str,
    packed: int = 0,
) -> Numbers:
    """The activated gate times the value, behind what comes before both."""
    gate, gate_bias, value, value_bias, before = _padded(given, 5)
    assert gate is not None
    x = gate.astype(np.float64) + (0 if gate_bias is None else gate_bias)
    factor: Numbers | float = 1.0
    if packed:
        factor, x = np.split(x, 2, axis=-1)
    elif value is not None:
        factor = value.astype(np.float64) + (0 if value_bias is None else value_bias)
    made = _ACTIVATIONS[activation](x) * factor
    return made if before is None else np.concatenate([before, made], axis=-1)


_ACTIVATIONS: dict[str, Callable[[Numbers], Numbers]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + np.vectorize(erf)(x / sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2,
}


def _padded(given: Given, length: int) -> Given:
    return [*given, *[None] * (length - len(given))]


def _rms(x: Numbers, epsilon: float) -> Numbers:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)


def _heads(
    x: Numbers, bias: Numbers | None, weight: Numbers | None, heads: int, epsilon: float
) -> Numbers:
    made = x.astype(np.float64) + (0 if bias is None else bias)
    made = made.reshape(*x.shape[:2], heads, x.shape[-1] // heads)
    return made if weight is None else _rms(made, epsilon) * weight


def _turned(x: Numbers, cosines: Numbers, sines: Numbers, halves: bool) -> Numbers:
    width = x.shape[-1]
    if halves:
        other = np.concatenate([-x[..., width // 2 :], x[..., : width // 2]], axis=-1)
    else:
        other = np.stack([-x[..., 1::2], x[..., ::2]], axis=-1).reshape(x.shape)
    if cosines.shape[-1] != width:
        copies = (np.tile, (1, 1, 1, 2)) if halves else (np.repeat, 2)
        spread, by = copies
        axis = {} if halves else {"axis": -1}
        cosines, sines = spread(cosines, by, **axis), spread(sines, by, **axis)
    return x * cosines + other * sines

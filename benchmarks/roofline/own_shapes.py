"""Shapes of outputs of the operators of our own."""

from collections.abc import Callable, Mapping

from benchmarks.roofline.node_inputs import NodeInputs
from benchmarks.roofline.value_facts import Shape


def _gated_sum_norm(given: NodeInputs) -> list[Shape]:
    """The norm and the sum that was normed."""
    return [given.shape(0), given.shape(0)]


def _rotated_heads(given: NodeInputs) -> list[Shape]:
    """`[R, S1 + S2, C]` of streams `[R, S1, C]` and, where there is one, `[R, S2, C]`."""
    rows, tokens, channels = given.shape(0)
    more = given.shape(3)[1] if given.has(3) else 0
    return [(rows, tokens + more, channels)]


def _gated_activation(given: NodeInputs) -> list[Shape]:
    """`[..., M + N]` of `[..., N]`, or of packed `[..., 2N]`, and `[..., M]` before."""
    *rows, width = given.shape(0)
    if given.integer("packed", 0):
        width //= 2
    before = given.shape(4)[-1] if given.has(4) else 0
    return [(*rows, before + width)]


OWN_RULES: Mapping[str, Callable[[NodeInputs], list[Shape]]] = {
    "GatedActivation": _gated_activation,
    "GatedSumNorm": _gated_sum_norm,
    "RotatedHeads": _rotated_heads,
}
"""Rules of these operators by name."""

"""Kernels of the operators of our own: by vectors of 16 bytes, and limited by their bytes.

Each holds what it computes with in registers, reads every large input once and writes every output
once. None was ever measured: at worst each moves one element at a time, and norms as the measured
layer norm does, which reads its inputs twice and divides for a running mean.
"""

from benchmarks.roofline.call import (
    GATED_ACTIVATION,
    GATED_SUM_NORM,
    ROTATED_HEADS,
    Cost,
    NodeCall,
)
from benchmarks.roofline.elementwise_kernels import (
    ERROR_FUNCTION,
    FEW,
    NORMAL_DISTRIBUTION,
    SIGMOID,
    TANH_GELU,
)
from benchmarks.roofline.launches import Launch
from benchmarks.roofline.norm_kernels import RUNNING_MEAN

# Instructions for an element, counted in the formula: conversions from and to 16 bits, the
# additions and multiplications of a sum with bias and gate, of a norm's two sums, and of its scale
# and shift.
_SUM, _NORM, _ROTATION = 6, 10, 6

_ACTIVATIONS = {
    "silu": (SIGMOID, SIGMOID),
    "gelu": (ERROR_FUNCTION, NORMAL_DISTRIBUTION),
    "gelu_tanh": (TANH_GELU, TANH_GELU),
}
"""Instructions of each activation, and at worst."""


def gated_sum_norm(call: NodeCall) -> Cost:
    """A residual with its gated branch, and the norm of the sum, with scale and shift."""
    elements = call.given(0).elements
    normed = call.outputs[0] is not None
    branched = _has(call, 1)
    norms = normed + _has(call, 3)
    moved = 1 + branched + sum(each is not None for each in call.outputs)
    twice = (1 + branched) * normed + _has(call, 3)
    vectors = Launch(
        GATED_SUM_NORM,
        bytes=call.bytes,
        instructions=(_SUM + _NORM * norms) * elements,
    )
    single = Launch(
        GATED_SUM_NORM,
        bytes=call.bytes,
        accesses=(moved + twice) * elements,
        instructions=(_SUM + RUNNING_MEAN * norms) * elements,
    )
    return Cost((vectors,), (single,))


def rotated_heads(call: NodeCall) -> Cost:
    """Heads of one or two streams, normed and rotated; a row of the tables serves all heads."""
    elements = call.result.elements
    norms, rotated = _has(call, 2) or _has(call, 5), _has(call, 6)
    vectors = Launch(
        ROTATED_HEADS,
        bytes=call.bytes,
        instructions=(FEW + _NORM * norms + _ROTATION * rotated) * elements,
    )
    single = Launch(
        ROTATED_HEADS,
        bytes=call.bytes,
        accesses=(2 + norms + 3 * rotated) * elements,
        instructions=(FEW + RUNNING_MEAN * norms + _ROTATION * rotated) * elements,
    )
    return Cost((vectors,), (single,))


def gated_activation(call: NodeCall) -> Cost:
    """The middle of a feed-forward; elements that another product made are copied before."""
    result = call.result.elements
    before = call.given(4).elements if _has(call, 4) else 0
    gated = result - before
    valued = bool(call.node.attributes.get_int("packed", 0)) or _has(call, 2)
    activation = call.node.attributes.get_string("activation", "silu")
    assert activation is not None
    few, many = _ACTIVATIONS[activation]
    vectors = Launch(GATED_ACTIVATION, bytes=call.bytes, instructions=(few + FEW) * gated)
    single = Launch(
        GATED_ACTIVATION,
        bytes=call.bytes,
        accesses=(2 + valued) * gated + 2 * before,
        indices=result,
        instructions=(many + FEW) * gated,
    )
    return Cost((vectors,), (single,))


def _has(call: NodeCall, index: int) -> bool:
    return index < len(call.inputs) and call.inputs[index] is not None

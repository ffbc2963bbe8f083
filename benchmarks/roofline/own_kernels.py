"""Kernels of the operators of our own: by vectors of 16 bytes, each large input read once and each
output written once.

Instructions for an element are those that the PTX for bf16 executes, moves between registers left
out (`tests/benchmarks/roofline/test_own_counts.py` runs it). A row's sums and a head's are known
behind a barrier alone, so a block reads, computes and writes in phases. At worst each kernel moves
one element at a time, and norms are as the measured layer norm, which reads its inputs twice and
divides for a running mean.
"""

from benchmarks.roofline.call import (
    GATED_ACTIVATION,
    GATED_SUM_NORM,
    ROTATED_HEADS,
    Cost,
    NodeCall,
)
from benchmarks.roofline.elementwise_kernels import (
    FEW,
    NORMAL_DISTRIBUTION,
    SIGMOID,
    TANH_GELU,
)
from benchmarks.roofline.launches import Launch
from benchmarks.roofline.norm_kernels import RUNNING_MEAN

# Of a vector that many rows read: its load, its unpacking, and the addition or multiplication.
_VECTOR = 2.4

# A gated sum's residual and what it writes, its branch, the norm of that branch and its own norm.
_SUM, _BRANCH, _BRANCH_NORM, _NORM = 5.1, 4.0, 3.3, 6.7
TANGENT = 1
"""Of a gate, by one instruction in bf16; the step of Z-Image that was measured took 18."""
MEASURED_TANGENT = 18

# A head's elements, and what its norm and its rotation add.
_HEAD, _HEAD_NORM, _ROTATION = 5.9, 5.8, 3.1

_SPECIAL = 8
"""Instructions in whose time a multiprocessor does one of its exponentials or inverses."""

_ACTIVATIONS = {
    "silu": (2 * _SPECIAL, SIGMOID + FEW),
    "gelu": (31, NORMAL_DISTRIBUTION + FEW),
    "gelu_tanh": (2 * _SPECIAL, TANH_GELU + FEW),
}
"""Instructions with each activation, and at worst."""

# Of the kernels that move one element at a time.
_SINGLE_SUM, _SINGLE_ROTATION = 6, 6

_VECTORS_OF_A_SUM = (2, 3, 4, 5, 6, 7)


def gated_sum_norm(call: NodeCall, tangent: float = TANGENT) -> Cost:
    """A residual with its gated branch, and the norm of the sum, with scale and shift."""
    elements = call.given(0).elements
    normed = call.outputs[0] is not None
    branched, branch_normed = _has(call, 1), _has(call, 3)
    moved = 1 + branched + sum(each is not None for each in call.outputs)
    twice = (1 + branched) * normed + branch_normed
    each = (
        _SUM
        + _BRANCH * branched
        + _BRANCH_NORM * branch_normed
        + _NORM * normed
        + _VECTOR * sum(_has(call, index) for index in _VECTORS_OF_A_SUM)
        + tangent * bool(call.node.attributes.get_int("gate_tanh", 0))
    )
    vectors = Launch(
        GATED_SUM_NORM,
        bytes=call.bytes,
        instructions=round(each * elements),
        in_phases=True,
    )
    single = Launch(
        GATED_SUM_NORM,
        bytes=call.bytes,
        accesses=(moved + twice) * elements,
        instructions=(_SINGLE_SUM + RUNNING_MEAN * (normed + branch_normed)) * elements,
    )
    return Cost((vectors,), (single,))


def rotated_heads(call: NodeCall) -> Cost:
    """Heads of one or two streams, normed and rotated; a row of the tables serves all heads."""
    elements = call.result.elements
    norms, rotated = _has(call, 2) or _has(call, 5), _has(call, 6)
    each = _HEAD + _VECTOR * _has(call, 1) + _HEAD_NORM * norms + _ROTATION * rotated
    vectors = Launch(
        ROTATED_HEADS,
        bytes=call.bytes,
        instructions=round(each * elements),
        in_phases=True,
    )
    single = Launch(
        ROTATED_HEADS,
        bytes=call.bytes,
        accesses=(2 + norms + 3 * rotated) * elements,
        instructions=(FEW + RUNNING_MEAN * norms + _SINGLE_ROTATION * rotated) * elements,
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
    each = few + _VECTOR * (valued + _has(call, 1))
    vectors = Launch(
        GATED_ACTIVATION, bytes=call.bytes, instructions=round(each * gated) + FEW * before
    )
    single = Launch(
        GATED_ACTIVATION,
        bytes=call.bytes,
        accesses=(2 + valued) * gated + 2 * before,
        indices=result,
        instructions=many * gated,
    )
    return Cost((vectors,), (single,))


def _has(call: NodeCall, index: int) -> bool:
    return index < len(call.inputs) and call.inputs[index] is not None

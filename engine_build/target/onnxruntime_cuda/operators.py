"""Operators of ours: their names, and their inputs by position.

Their kernels, and all that they compute, are in `runtime/backends/onnxruntime/operators`.
"""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import OURS

GATED_ACTIVATION = "GatedActivation"
GATED_SUM_NORM = "GatedSumNorm"
ROTATED_HEADS = "RotatedHeads"

OPERATORS = (GATED_ACTIVATION, GATED_SUM_NORM, ROTATED_HEADS)

X, BRANCH, BIAS, BRANCH_WEIGHT, GATE, WEIGHT, SCALE, SHIFT = range(8)
"""The inputs of `GatedSumNorm`."""


def our_operator(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    outputs: Sequence[ir.Value],
    attributes: Mapping[str, int | float | str],
) -> ir.Node:
    """A node of ours; inputs that are left out at the end have no place in it."""
    given = list(inputs)
    while given and given[-1] is None:
        given.pop()
    named = next(each.name for each in outputs if each.name)
    return ir.node(op_type, given, attributes, domain=OURS, outputs=outputs, name=f"{named}.node")


def given_input(node: ir.Node, index: int) -> ir.Value | None:
    """The input of a node at this position; None where the node leaves that out."""
    return node.inputs[index] if index < len(node.inputs) else None

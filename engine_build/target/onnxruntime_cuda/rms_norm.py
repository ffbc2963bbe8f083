"""Root-mean-square norms, which PyTorch's exporter writes as seven operators.

Pow 2 -> ReduceMean -> Add epsilon -> Sqrt -> Reciprocal -> Mul with the value -> Mul weight
"""

from dataclasses import dataclass

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import (
    is_vector,
    made_by,
    number,
    other_input,
    rank,
    read_by,
    uncast,
    width,
)


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """A norm of the last axis, times a weight."""

    source: ir.Value
    """The normed value, before any Cast."""
    weight: ir.Value | None
    """A constant `[C]`; None for ones."""
    epsilon: float
    output: ir.Value
    """The output of the norm's last operator."""


def rms_norm_of(reciprocal: ir.Node) -> RmsNorm | None:
    """The norm that a Reciprocal is part of; None where it is part of none."""
    measured = _measured(reciprocal)
    scaled = read_by(reciprocal.outputs[0], "Mul")
    if measured is None or scaled is None:
        return None
    source, epsilon = measured
    weighted = read_by(scaled.outputs[0], "Mul")
    weight = other_input(weighted, scaled.outputs[0]) if weighted is not None else None
    extent = width(source)
    if other_input(scaled, reciprocal.outputs[0]) is not source or weighted is None:
        return None
    if weight is None or extent is None or not is_vector(weight):
        return None
    # Constants may have more axes than what is normed.
    if weight.shape != ir.Shape([extent]) or rank(source) != rank(weighted.outputs[0]):
        return None
    return RmsNorm(source, weight, epsilon, weighted.outputs[0])


def _measured(reciprocal: ir.Node) -> tuple[ir.Value, float] | None:
    """The value whose root mean square a Reciprocal inverts, and the epsilon."""
    root = made_by(reciprocal.inputs[0], "Sqrt")
    steady = made_by(root.inputs[0], "Add") if root is not None else None
    mean = made_by(steady.inputs[0], "ReduceMean") if steady is not None else None
    power = made_by(mean.inputs[0], "Pow") if mean is not None else None
    if steady is None or mean is None or power is None or not _is_of_last_axis(mean):
        return None
    epsilon, source = number(uncast(steady.inputs[1])), uncast(power.inputs[0])
    squares = number(uncast(power.inputs[1])) == 2
    return (source, epsilon) if squares and source is not None and epsilon is not None else None


def _is_of_last_axis(mean: ir.Node) -> bool:
    axes = number(mean.inputs[1]) if len(mean.inputs) > 1 else None
    axis_count = rank(mean.inputs[0])
    keeps = mean.attributes.get("keepdims")
    kept = keeps is None or keeps.as_int() == 1
    return kept and axis_count is not None and axes in (-1, axis_count - 1)

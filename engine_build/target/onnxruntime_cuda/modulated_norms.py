"""The norms that a transformer's blocks begin with, as `GatedSumNorm`: layer norms with neither a
weight nor a bias, RMS norms, and the modulations behind both.

    norm -> Mul (1 + scale) -> Add shift

Scale and shift are modulations `[R, 1, C]`, one for each row R, which the timestep decides. The
kernel computes in fp32, whatever dtype it reads.
"""

import onnx_ir as ir
import onnx_ir.passes.common as passes

from engine_build.target.onnxruntime_cuda.operators import (
    GATED_SUM_NORM,
    SCALE,
    SHIFT,
    given_input,
    our_operator,
)
from engine_build.target.onnxruntime_cuda.patterns import (
    both_ways,
    is_constant,
    made_by,
    number,
    other_input,
    producer,
    rank,
    read_by,
    same_shape,
    uncast,
)
from engine_build.target.onnxruntime_cuda.rms_norm import RmsNorm, rms_norm_of
from engine_build.target.onnxruntime_cuda.values import as_dtype, put_value


def fuse_norms(model: ir.Model) -> None:
    """Put the operator in the place of norms of rows `[R, S, C]`, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type == "LayerNormalization":
            _put_layer_norm(node, graph)
        elif node.op_type == "Reciprocal":
            found = rms_norm_of(node)
            if found is not None and rank(found.source) == 3:
                _put_norm("rms", found, graph)


def fuse_modulations(model: ir.Model) -> None:
    """Let norms of ours take the scale and the shift behind them, in place."""
    for take in (_take_scale, _take_shift):
        for node in list(model.graph):
            if node.op_type == GATED_SUM_NORM:
                take(node, model.graph)
        # A Mul whose output nothing reads would still read the norm.
        passes.RemoveUnusedNodesPass()(model)


def is_modulation(value: ir.Value | None, rows: ir.Value) -> bool:
    """True for `[R, 1, C]` or `[1, 1, C]` beside rows `[R, S, C]` that is no constant."""
    if value is None or rank(value) != 3 or rank(rows) != 3 or is_constant(value):
        return False
    assert value.shape is not None
    assert rows.shape is not None
    first, middle, last = value.shape
    return middle == 1 and last == rows.shape[2] and first in (1, rows.shape[0])


def _put_layer_norm(norm: ir.Node, graph: ir.Graph) -> None:
    """Put the operator in the place of a norm of the last of three axes, whose weight is all ones
    and that has no bias."""
    source, axis = uncast(norm.inputs[0]), norm.attributes.get("axis")
    last = axis is None or axis.as_int() in (-1, 2)
    if source is None or rank(source) != 3 or not last or given_input(norm, 2) is not None:
        return
    weight = given_input(norm, 1)
    stored = weight.const_value if weight is not None and weight.is_initializer() else None
    if stored is None or isinstance(stored, ir.ExternalTensor) or (stored.numpy() != 1).any():
        return
    epsilon = norm.attributes.get("epsilon")
    given = 1e-5 if epsilon is None else epsilon.as_float()
    _put_norm("layer", RmsNorm(source, None, given, norm.outputs[0]), graph)


def _put_norm(kind: str, norm: RmsNorm, graph: ir.Graph) -> None:
    """Put the operator in the place of a norm."""
    output, made = norm.output, norm.output.producer()
    assert made is not None
    dtype = norm.source.dtype
    assert dtype is not None
    normed = ir.Value(name=f"{output.name}.normed", shape=output.shape, type=ir.TensorType(dtype))
    given = [norm.source, *[None] * 4, as_dtype(norm.weight, dtype, graph)]
    settings: dict[str, int | float | str] = {"norm": kind, "epsilon": norm.epsilon}
    graph.insert_before(made, our_operator(GATED_SUM_NORM, given, [normed], settings))
    put_value(normed, output, graph)


def _take_scale(norm: ir.Node, graph: ir.Graph) -> None:
    """Take `Mul (1 + scale)` behind a norm."""
    normed = norm.outputs[0]
    scaled = read_by(normed, "Mul")
    factor = other_input(scaled, normed) if scaled is not None else None
    if scaled is None or not is_modulation(factor, normed) or _is_modulated(norm):
        return
    # FLUX.1's last norm adds the 1 before the axis of the tokens is there.
    unsqueezed = producer(factor, "Unsqueeze")
    added = made_by(unsqueezed.inputs[0] if unsqueezed is not None else factor, "Add")
    scale = _other_than_one(added) if added is not None else None
    # A scale of channels alone has no axis for the rows.
    if scale is not None and rank(scale) != 1:
        _give(norm, SCALE, scale, scaled.outputs[0], graph)


def _is_modulated(norm: ir.Node) -> bool:
    return any(given_input(norm, each) is not None for each in (SCALE, SHIFT))


def _other_than_one(add: ir.Node) -> ir.Value | None:
    """The summand beside a 1, where the sum has its shape."""
    for one, other in both_ways(add):
        if number(other) == 1 and same_shape(one, add.outputs[0]):
            return one
    return None


def _take_shift(norm: ir.Node, graph: ir.Graph) -> None:
    """Take `Add shift` behind a norm."""
    normed = norm.outputs[0]
    shifted = read_by(normed, "Add")
    shift = other_input(shifted, normed) if shifted is not None else None
    if shifted is not None and is_modulation(shift, normed) and given_input(norm, SHIFT) is None:
        _give(norm, SHIFT, shift, shifted.outputs[0], graph)


def _give(
    norm: ir.Node, index: int, value: ir.Value | None, output: ir.Value, graph: ir.Graph
) -> None:
    """Give a norm a further input, so that the norm makes `output`."""
    dtype = norm.outputs[0].dtype
    assert dtype is not None
    norm.resize_inputs(max(len(norm.inputs), index + 1))
    norm.replace_input_with(index, as_dtype(value, dtype, graph))
    put_value(norm.outputs[0], output, graph)

"""Definitions of operators that ONNX Runtime has for CUDA alone, as functions of plain operators.

They follow the published documentation, so that a graph with these operators can be run on the CPU.
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

import onnx.parser
import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import DOMAIN
from engine_build.target.onnxruntime_cuda.plain_operators import write_out_operators
from engine_build.target.onnxruntime_cuda.values import constant

# A domain of ours: in ONNX Runtime's own domain these names stand for its kernels, which the CPU
# provider lacks.
_DEFINED = "calotype.defined"

GROUP_NORM = """
<domain: "calotype.defined", opset_import: ["" : 20]>
GroupNorm <activation, channels_last, epsilon, groups> (x, gamma, beta) => (y)
{
    wide = Cast <to = 1> (x)
    shape = Shape (x)
    samples = Shape <start = 0, end = 1> (x)
    channels = Shape <start = 3, end = 4> (x)
    rest = Constant <value_ints = [-1]> ()
    one = Constant <value_ints = [1]> ()
    number = Constant <value_int: int = @groups> ()
    count = Reshape (number, one)
    size = Div (channels, count)
    split = Concat <axis = 0> (samples, rest, count, size)
    grouped = Reshape (wide, split)
    axes = Constant <value_ints = [1, 3]> ()
    mean = ReduceMean <keepdims = 1> (grouped, axes)
    centred = Sub (grouped, mean)
    squared = Mul (centred, centred)
    variance = ReduceMean <keepdims = 1> (squared, axes)
    least = Constant <value_float: float = @epsilon> ()
    steady = Add (variance, least)
    deviation = Sqrt (steady)
    normal = Div (centred, deviation)
    flat = Reshape (normal, shape)
    scaled = Mul (flat, gamma)
    shifted = Add (scaled, beta)
    gate = Sigmoid (shifted)
    gated = Mul (shifted, gate)
    chosen = Constant <value_int: int = @activation> ()
    silu = Cast <to = 9> (chosen)
    result = Where (silu, gated, shifted)
    y = CastLike (result, x)
}
"""

NHWC_CONV = """
<domain: "calotype.defined", opset_import: ["" : 20]>
NhwcConv <auto_pad, dilations, group, kernel_shape, pads, strides> (x, w, b) => (y)
{
    picture = Transpose <perm = [0, 3, 1, 2]> (x)
    kernels = Transpose <perm = [0, 3, 1, 2]> (w)
    found = Conv <
        auto_pad: string = @auto_pad, dilations: ints = @dilations, group: int = @group,
        kernel_shape: ints = @kernel_shape, pads: ints = @pads, strides: ints = @strides
    > (picture, kernels, b)
    y = Transpose <perm = [0, 2, 3, 1]> (found)
}
"""


SKIP_GROUP_NORM = """
<domain: "calotype.defined", opset_import: ["" : 20, "calotype.defined" : 1]>
SkipGroupNorm <activation, channels_last, epsilon, groups>
    (x, gamma, beta, skip, bias) => (y, total)
{
    shifted = Add (x, bias)
    total = Add (shifted, skip)
    y = calotype.defined.GroupNorm <
        activation: int = @activation, channels_last: int = @channels_last,
        epsilon: float = @epsilon, groups: int = @groups
    > (total, gamma, beta)
}
"""

SKIP_LAYER_NORM = """
<domain: "calotype.defined", opset_import: ["" : 20]>
SkipLayerNormalization <epsilon> (x, skip, gamma, beta, bias) => (y, mean, inverse, total)
{
    shifted = Add (x, bias)
    total = Add (shifted, skip)
    wide = Cast <to = 1> (total)
    last = Constant <value_ints = [-1]> ()
    mean = ReduceMean <keepdims = 1> (wide, last)
    centred = Sub (wide, mean)
    squared = Mul (centred, centred)
    variance = ReduceMean <keepdims = 1> (squared, last)
    least = Constant <value_float: float = @epsilon> ()
    steady = Add (variance, least)
    deviation = Sqrt (steady)
    inverse = Reciprocal (deviation)
    normal = Mul (centred, inverse)
    scale = Cast <to = 1> (gamma)
    scaled = Mul (normal, scale)
    offset = Cast <to = 1> (beta)
    moved = Add (scaled, offset)
    y = CastLike (moved, x)
}
"""

BIAS_SPLIT_GELU = """
<domain: "calotype.defined", opset_import: ["" : 20]>
BiasSplitGelu (x, bias) => (y)
{
    shifted = Add (x, bias)
    wide = Cast <to = 1> (shifted)
    hidden, gate = Split <axis = -1, num_outputs = 2> (wide)
    open = Gelu (gate)
    product = Mul (hidden, open)
    y = CastLike (product, x)
}
"""

BIAS_ADD = """
<domain: "calotype.defined", opset_import: ["" : 20]>
BiasAdd (x, bias, skip) => (y)
{
    shifted = Add (x, bias)
    y = Add (shifted, skip)
}
"""

_DEFINITIONS = (
    BIAS_ADD,
    BIAS_SPLIT_GELU,
    GROUP_NORM,
    NHWC_CONV,
    SKIP_GROUP_NORM,
    SKIP_LAYER_NORM,
)

# Inputs that a node may leave out, and its function adds: by operator, their positions.
_ZERO = {"SkipGroupNorm": (4,), "SkipLayerNormalization": (3, 4)}


def define_operators(model: ir.Model) -> None:
    """Let a graph call the functions instead of the operators, and write out those of ours, in
    place."""
    write_out_operators(model)
    functions = [
        ir.serde.deserialize_function(onnx.parser.parse_function(text)) for text in _DEFINITIONS
    ]
    by_name = {function.name: function for function in functions}
    for node in model.graph:
        if node.domain == DOMAIN and node.op_type in by_name:
            node.domain = _DEFINED
            for index in _ZERO.get(node.op_type, ()):
                _fill(node, index, model.graph)
            _name_outputs(node, len(by_name[node.op_type].outputs))
    model.functions.update({function.identifier(): function for function in functions})
    model.opset_imports[_DEFINED] = 1


def _name_outputs(node: ir.Node, count: int) -> None:
    """Give a node all outputs of its function, those too that it leaves out as an operator."""
    node.resize_outputs(count)
    for index, output in enumerate(node.outputs):
        if not output.name:
            output.name = f"{node.outputs[0].name}.unread.{index}"


def _fill(node: ir.Node, index: int, graph: ir.Graph) -> None:
    """Give a node a zero in the place of an input that the node leaves out."""
    if index < len(node.inputs) and node.inputs[index] is not None:
        return
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    source = node.inputs[0]
    assert source is not None
    assert source.dtype is not None
    zero = constant(graph, f"{node.outputs[0].name}.zero.{index}", 0.0, source.dtype)
    node.replace_input_with(index, zero)

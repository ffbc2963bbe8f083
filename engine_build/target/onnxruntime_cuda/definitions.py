"""Definitions of operators that ONNX Runtime has for CUDA alone, as functions of plain operators.

They follow the published documentation, so that a graph with these operators can be run on the CPU.
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

import onnx.parser
import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.group_norm import DOMAIN

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


def define_operators(model: ir.Model) -> None:
    """Let a graph call the functions instead of the operators, in place."""
    functions = [
        ir.serde.deserialize_function(onnx.parser.parse_function(text))
        for text in (GROUP_NORM, NHWC_CONV)
    ]
    names = {function.name for function in functions}
    for node in model.graph:
        if node.domain == DOMAIN and node.op_type in names:
            node.domain = _DEFINED
    model.functions.update({function.identifier(): function for function in functions})
    model.opset_imports[_DEFINED] = 1

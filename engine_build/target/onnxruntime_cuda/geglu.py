"""GEGLU with the bias of its product as one operator: `com.microsoft.BiasSplitGelu`.

diffusers writes `hidden, gate = split(x + bias)` and `hidden * gelu(gate)`: four kernels, each of
which moves the widest tensor of a block. The operator reads x and the bias, computes in fp32 and
writes the product.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BiasSplitGelu
"""

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.bias_gelu import is_exact
from engine_build.target.onnxruntime_cuda.biases import Biased, biased
from engine_build.target.onnxruntime_cuda.kernels import takes
from engine_build.target.onnxruntime_cuda.patterns import only_reader, rank
from engine_build.target.onnxruntime_cuda.values import own_operator, put_in_place

WIDTHS = (2560, 5120, 6144, 10240, 12288)
"""Widths of x, hidden and gate together, that the kernel takes."""


def fuse_geglus(model: ir.Model) -> None:
    """Fuse every GEGLU that the kernel takes, in place."""
    graph = model.graph
    for split in list(graph):
        if split.op_type != "Split":
            continue
        product = geglu_of(split)
        x = biased(split.inputs[0])
        if product is not None and x is not None and _taken(x):
            made = own_operator("BiasSplitGelu", [x.raw, x.bias], product.outputs[0])
            put_in_place(made, product, graph)


def geglu_of(split: ir.Node) -> ir.Node | None:
    """The Mul at the end of the GEGLU that a Split begins; None where it begins none."""
    source = split.inputs[0]
    if len(split.outputs) != 2 or rank(source) != 3 or "num_outputs" not in split.attributes:
        return None
    if "axis" not in split.attributes or split.attributes["axis"].as_int() not in (2, -1):
        return None
    hidden, gate = split.outputs
    gelu = only_reader(gate, "Gelu")
    product = only_reader(gelu, "Mul")
    if gelu is None or product is None:
        return None
    joined = {*product.inputs} == {hidden, gelu.outputs[0]}
    inside = not product.outputs[0].is_graph_output()
    return product if is_exact(gelu) and joined and inside and only_reader(hidden, "Mul") else None


def _taken(x: Biased) -> bool:
    return x.width in WIDTHS and takes("BiasSplitGelu", x.raw.dtype)

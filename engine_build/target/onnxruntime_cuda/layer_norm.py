"""Layer norms of 16-bit values: `LayerNormalization` without the Casts around it.

The typed graph computes every norm in fp32. CUDA's kernel sums in fp32 whatever its input is
(`LayerNorm<half, float, half>`), so that an input and an output of 16 bits lose nothing beyond the
rounding that the Casts made: the norm reads and writes half as many bytes, and four Casts go.
"""

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import NARROW, producer, readers
from engine_build.target.onnxruntime_cuda.values import in_dtype


def narrow_layer_norms(model: ir.Model) -> None:
    """Give layer norms the 16-bit input that was widened for them, in place, where all that reads
    the norm narrows its output to the same dtype."""
    graph = model.graph
    for node in list(graph):
        if node.op_type == "LayerNormalization":
            _narrow(node, graph)


def _narrow(norm: ir.Node, graph: ir.Graph) -> None:
    widened, output = producer(norm.inputs[0], "Cast"), norm.outputs[0]
    source = widened.inputs[0] if widened is not None else None
    if source is None or source.dtype not in NARROW or output.is_graph_output():
        return
    dtype = source.dtype
    casts = readers(output)
    if not casts or any(
        each.op_type != "Cast"
        or each.outputs[0].dtype != dtype
        or each.outputs[0].is_graph_output()
        for each in casts
    ):
        return
    norm.replace_input_with(0, source)
    for index, value in enumerate(norm.inputs[1:], start=1):
        if value is not None:
            norm.replace_input_with(index, in_dtype(value, dtype, graph))
    output.dtype = dtype
    for cast in casts:
        cast.outputs[0].replace_all_uses_with(output)

"""Convolutions whose weights are replaced, in a graph that was compiled for weights that stay.

ONNX Runtime's CUDA provider has `com.microsoft.NhwcConv` with constant weights alone, and knows no
other convolution with channels last. A Conv between Transposes takes any weights; it is slower.
"""

from collections.abc import Sequence

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.layout import FIRST, LAST, permuted


def put_plain_convolutions(model: ir.Model) -> None:
    """Put a Conv, channels first, in the place of each NhwcConv, in place.

    Transposes that meet are joined by ONNX Runtime when it opens the graph.
    """
    for node in list(model.graph):
        if node.op_type == "NhwcConv":
            _replace(model.graph, node)


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    picture, weight, *bias = node.inputs
    (output,) = node.outputs
    assert picture is not None
    assert weight is not None
    name = str(output.name)
    moves = [_transpose(picture, f"{name}.picture.first", FIRST)]
    moves.append(_transpose(weight, f"{name}.weight.first", FIRST))
    inputs = [*(move.outputs[0] for move in moves), *bias]
    plain = ir.Value(name=f"{name}.first", shape=permuted(output.shape, FIRST), type=output.type)
    conv = ir.node("Conv", inputs, node.attributes, outputs=[plain], name=plain.name)
    back = _transpose(plain, name, LAST)
    graph.insert_before(node, [*moves, conv, back])
    output.replace_all_uses_with(back.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _transpose(value: ir.Value, name: str, order: Sequence[int]) -> ir.Node:
    output = ir.Value(name=name, shape=permuted(value.shape, order), type=value.type)
    return ir.node("Transpose", [value], {"perm": order}, outputs=[output], name=f"{name}.move")

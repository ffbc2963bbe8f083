"""The biases of queries, keys and values as the bias of `com.microsoft.MultiHeadAttention`: one
kernel adds all three, where each was a kernel of its own."""

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.biases import biased

_BIAS = 3
"""The position of the bias `[3 * C]` among the operator's inputs."""


def fuse_attention_biases(model: ir.Model) -> None:
    """Fuse the biases of every attention whose query, key and value each have one, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type == "MultiHeadAttention" and _has_no_bias(node):
            _fuse(node, graph)


def _has_no_bias(node: ir.Node) -> bool:
    return len(node.inputs) <= _BIAS or node.inputs[_BIAS] is None


def _fuse(node: ir.Node, graph: ir.Graph) -> None:
    products = [found for value in node.inputs[:3] if (found := biased(value)) is not None]
    if len(products) != 3:
        return
    first = products[0]
    extent = sum(product.width for product in products)
    name = f"{node.outputs[0].name}.bias"
    bias = ir.Value(name=name, shape=ir.Shape([extent]), type=first.raw.type)
    vectors = [product.bias for product in products]
    made = ir.node("Concat", vectors, {"axis": 0}, outputs=[bias], name=f"{name}.node")
    graph.insert_before(node, made)
    for index, product in enumerate(products):
        node.replace_input_with(index, product.raw)
    if len(node.inputs) <= _BIAS:
        node.resize_inputs(_BIAS + 1)
    node.replace_input_with(_BIAS, bias)

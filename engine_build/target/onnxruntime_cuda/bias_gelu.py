"""Exact GELU with the bias of its product as one operator: `com.microsoft.BiasGelu`."""

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.biases import biased
from engine_build.target.onnxruntime_cuda.values import own_operator, put_in_place


def fuse_bias_gelus(model: ir.Model) -> None:
    """Fuse every exact GELU of a product with a bias, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type != "Gelu" or not is_exact(node) or node.outputs[0].is_graph_output():
            continue
        product = biased(node.inputs[0])
        if product is not None:
            made = own_operator("BiasGelu", [product.raw, product.bias], node.outputs[0])
            put_in_place(made, node, graph)


def is_exact(gelu: ir.Node) -> bool:
    """True for the form with the error function, not that with a hyperbolic tangent."""
    kind = gelu.attributes.get("approximate")
    return kind is None or kind.as_string() == "none"

"""Exact GELU with the bias of its product as one operator: `com.microsoft.BiasGelu`."""

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.biases import biased
from engine_build.target.onnxruntime_cuda.patterns import DOMAIN, like


def fuse_bias_gelus(model: ir.Model) -> None:
    """Fuse every exact GELU of a product with a bias, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type != "Gelu" or not is_exact(node) or node.outputs[0].is_graph_output():
            continue
        product = biased(node.inputs[0])
        if product is not None:
            output = like(node.outputs[0], f"{node.outputs[0].name}.fused")
            made = ir.node(
                "BiasGelu",
                [product.raw, product.bias],
                domain=DOMAIN,
                outputs=[output],
                name=f"{output.name}.node",
            )
            graph.insert_before(node, made)
            node.outputs[0].replace_all_uses_with(output)


def is_exact(gelu: ir.Node) -> bool:
    """True for the form with the error function, not that with a hyperbolic tangent."""
    kind = gelu.attributes.get("approximate")
    return kind is None or kind.as_string() == "none"

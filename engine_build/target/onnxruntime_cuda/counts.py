"""Counts of what was fused in a compiled graph, and of what fits no fusion and was left."""

from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.biases import biased_product
from engine_build.target.onnxruntime_cuda.geglu import geglu_of
from engine_build.target.onnxruntime_cuda.patterns import DOMAIN, NARROW, is_residual, producer

_WITH_A_FUSION: Mapping[str, str] = {
    "Conv": "convolution",
    "InstanceNormalization": "group norm",
    "Softmax": "attention",
}
"""Operators that a fusion takes away wherever it fits."""


def fused(model: ir.Model) -> dict[str, int]:
    """The number of nodes of each of ONNX Runtime's own operators."""
    found = Counter(node.op_type for node in model.graph if node.domain == DOMAIN)
    return dict(sorted(found.items()))


def unfused(model: ir.Model) -> dict[str, int]:
    """The number of places that no fusion fitted, by what they are; only those that there are."""
    narrow = any(value.dtype in NARROW for node in model.graph for value in node.outputs)
    found = Counter(name for node in model.graph if (name := _unfused(node, narrow=narrow)))
    return dict(sorted(found.items()))


def _unfused(node: ir.Node, *, narrow: bool) -> str | None:
    """The name of what a node should have become part of; `narrow`: the graph is of 16 bits."""
    if node.op_type in _WITH_A_FUSION:
        return _WITH_A_FUSION[node.op_type]
    if node.op_type == "Split" and geglu_of(node) is not None:
        return "GEGLU"
    if node.op_type == "Add" and biased_product(node) is not None:
        return "bias of a product"
    if node.op_type == "LayerNormalization":
        add = producer(node.inputs[0], "Add")
        if add is not None and is_residual(add):
            return "layer norm of a sum"
        if narrow and node.outputs[0].dtype == ir.DataType.FLOAT:
            return "layer norm in fp32"
    return None

"""Counts of what was fused in a compiled graph, and of what fits no fusion and was left."""

from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.biases import biased_product
from engine_build.target.onnxruntime_cuda.geglu import geglu_of
from engine_build.target.onnxruntime_cuda.patterns import (
    DOMAIN,
    NARROW,
    OURS,
    is_residual,
    producer,
)
from engine_build.target.onnxruntime_cuda.rms_norm import rms_norm_of
from engine_build.target.onnxruntime_cuda.rotations import turn_of

_WITH_A_FUSION: Mapping[str, str] = {
    "Conv": "convolution",
    "InstanceNormalization": "group norm",
    "Softmax": "attention",
}
"""Operators that a fusion takes away wherever it fits."""


def fused(model: ir.Model) -> dict[str, int]:
    """The number of nodes of each operator of ONNX Runtime's own and of ours."""
    found = Counter(node.op_type for node in model.graph if node.domain in (DOMAIN, OURS))
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
    if node.op_type == "LayerNormalization":
        return _unfused_layer_norm(node, narrow=narrow)
    found = {
        "GEGLU": node.op_type == "Split" and geglu_of(node) is not None,
        "RMS norm": node.op_type == "Reciprocal" and rms_norm_of(node) is not None,
        "rotation": turn_of(node) is not None,
        "bias of a product": biased_product(node) is not None,
    }
    return next((name for name, is_left in found.items() if is_left), None)


def _unfused_layer_norm(norm: ir.Node, *, narrow: bool) -> str | None:
    add = producer(norm.inputs[0], "Add")
    if add is not None and is_residual(add):
        return "layer norm of a sum"
    return "layer norm in fp32" if narrow and norm.outputs[0].dtype == ir.DataType.FLOAT else None

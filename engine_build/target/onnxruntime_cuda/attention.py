"""Attention as one operator, `com.microsoft.MultiHeadAttention`.

By onnxscript's own rules, which read what PyTorch's exporter writes. ONNX Runtime's offline
optimizer was written for older exporters: it finds none of the 22 attentions of a tiny SDXL.
"""

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript.rewriter.ort_fusions.mha import fuse_mha2
from onnxscript.rewriter.ort_fusions.sdpa import fuse_sdpa
from onnxscript.rewriter.ort_fusions.sdpa_via_mha import replace_sdpa_by_mha

from runtime.errors import BuildError

# Where onnxscript puts attention between two of its rules. No backend has this operator.
_UNFINISHED = "ai.onnxruntime._fusion"


def fuse_attention(model: ir.Model) -> None:
    """Fuse every attention of an fp32 graph, in place. Raises BuildError for one left halfway.

    Rows that a mask hides entirely come out as zeros of the plain graph, and undefined of the
    operator; no family has them.
    """
    passes.ShapeInferencePass()(model)
    fuse_sdpa(model, apply_shape_inference=True)
    fuse_mha2(model)
    # What is rotated or normed by heads is no plain projection, and is brought to its form.
    replace_sdpa_by_mha(model)
    passes.ShapeInferencePass()(model)
    for node in model.graph:
        if node.op_type == "MultiHeadAttention":
            _describe(node)
        if node.domain == _UNFINISHED:
            raise BuildError(
                f"{node.name}: its number of heads is unknown, so that ONNX Runtime's attention "
                "cannot be used; compile with another backend"
            )
    passes.ShapeInferencePass()(model)


def _describe(node: ir.Node) -> None:
    """Say what an attention makes, where the rules left that open and ONNX knows no such operator:
    what becomes of a network in 16 bits is decided from the dtypes of all that is in it.
    """
    query, _, value = node.inputs[:3]
    output = node.outputs[0]
    if output.type is not None or query is None or query.dtype is None or value is None:
        return
    output.type = ir.TensorType(query.dtype)
    if query.shape is not None and value.shape is not None:
        output.shape = ir.Shape([*query.shape[:2], value.shape[2]])

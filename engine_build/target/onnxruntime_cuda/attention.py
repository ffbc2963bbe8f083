"""Attention as one operator, `com.microsoft.MultiHeadAttention`.

The fusion uses onnxscript's rules, which read what PyTorch's exporter writes. ONNX Runtime's
offline optimizer was written for older exporters, and finds none of the 22 attentions of a tiny
SDXL.
"""

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript.rewriter.ort_fusions.mha import fuse_mha2
from onnxscript.rewriter.ort_fusions.sdpa import fuse_sdpa
from onnxscript.rewriter.ort_fusions.sdpa_via_mha import replace_sdpa_by_mha

from runtime.errors import BuildError

# The domain of the operator that onnxscript's rules use between them; no backend has the operator.
_UNFINISHED = "ai.onnxruntime._fusion"


def fuse_attention(model: ir.Model) -> None:
    """Fuse every attention of an fp32 graph, in place.

    The plain graph makes zeros of a row that a mask hides entirely, and the operator leaves such a
    row undefined; no family has such rows. Raises BuildError for an attention whose number of heads
    is unknown.
    """
    passes.ShapeInferencePass()(model)
    fuse_sdpa(model, apply_shape_inference=True)
    fuse_mha2(model)
    # The rules above leave attentions whose query or key is rotated, or normed by heads.
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
    """Give an attention's output its dtype and shape, where the rules left them open and the shape
    inference of ONNX knows no such operator: dtypes of values decide the precision of nodes.
    """
    query, _, value = node.inputs[:3]
    output = node.outputs[0]
    if output.type is not None or query is None or query.dtype is None or value is None:
        return
    output.type = ir.TensorType(query.dtype)
    if query.shape is not None and value.shape is not None:
        output.shape = ir.Shape([*query.shape[:2], value.shape[2]])

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

from engine_build.target.onnxruntime_cuda.patterns import extents, number, producer
from runtime.errors import BuildError

# The domain of the operator that onnxscript's rules use between them; no backend has the operator.
_UNFINISHED = "ai.onnxruntime._fusion"

# Inputs of MultiHeadAttention.
_KEY_PADDING, _BIAS = 4, 5

# The least number that hides a key: PyTorch's exporter writes the least of fp32.
_HIDES = -1e30


def fuse_attention(model: ir.Model) -> None:
    """Fuse every attention of an fp32 graph, in place.

    The plain graph makes zeros of a row that a mask hides entirely, and the operator leaves such a
    row undefined; no family has such rows. A mask that hides each row's last keys becomes the
    number of keys that are seen. Raises BuildError for an attention whose number of heads is
    unknown.
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
            _count_keys(node, model.graph)
            _share_bias(node)
        if node.domain == _UNFINISHED:
            raise BuildError(
                f"{node.name}: its number of heads is unknown, so that ONNX Runtime's attention "
                "cannot be used; compile with another backend"
            )
    passes.ShapeInferencePass()(model)


def _count_keys(node: ir.Node, graph: ir.Graph) -> None:
    """Tell an attention how many of the first keys each row sees, in the place of a mask.

    cuDNN's kernel takes the numbers `[B]` as they are. A mask would be widened to each query, tens
    of megabytes at Z-Image's length, and be read by every attention.
    """
    seen = _seen(node.inputs[_BIAS]) if len(node.inputs) > _BIAS else None
    if seen is None:
        return
    name = f"{seen.name}.keys"
    counted = next((use.node.outputs[0] for use in seen.uses() if use.node.name == name), None)
    if counted is None:
        cast = ir.node("Cast", [seen], {"to": ir.DataType.INT32.value}, name=name)
        counted = cast.outputs[0]
        counted.name, counted.shape = name, seen.shape
        counted.type = ir.TensorType(ir.DataType.INT32)
        made = seen.producer()
        if made is None:
            graph.insert_before(graph[0], cast)
        else:
            graph.insert_after(made, cast)
    node.replace_input_with(_KEY_PADDING, counted)
    node.replace_input_with(_BIAS, None)


def _seen(bias: ir.Value | None) -> ir.Value | None:
    """The numbers `[B]` of keys that each row sees, where a bias is 0 for the first keys of a row
    and hides the others; None for any other bias.

    PyTorch's exporter writes `arange(keys) < numbers[:, None]`, as `[B, 1, 1, keys]`, as Where.
    """
    widened = producer(bias, "Expand")
    mask = producer(widened.inputs[0] if widened else bias, "Where")
    if mask is None:
        return None
    hidden = number(mask.inputs[2])
    if number(mask.inputs[1]) != 0 or hidden is None or hidden > _HIDES:
        return None
    # Two axes of 1 between the rows and the keys: [R, S] to [R, 1, 1, S].
    by_query = producer(mask.inputs[0], "Unsqueeze")
    by_head = producer(by_query.inputs[0], "Unsqueeze") if by_query else None
    less = producer(by_head.inputs[0], "Less") if by_head else None
    places = producer(less.inputs[0], "Range") if less else None
    column = producer(less.inputs[1], "Unsqueeze") if less else None
    if by_query is None or by_head is None or places is None or column is None:
        return None
    from_the_first = number(places.inputs[0]) == 0 and number(places.inputs[2]) == 1
    between = number(by_head.inputs[1]) == 1 and number(by_query.inputs[1]) in {1, 2}
    by_row = number(column.inputs[1]) == 1
    return column.inputs[0] if from_the_first and between and by_row else None


def _share_bias(node: ir.Node) -> None:
    """Give an attention its bias as it is, where the bias has a row for each query already: one
    value, narrowed once, feeds all attentions. The rules widen a bias for each of them.
    """
    query = node.inputs[0]
    widened = producer(node.inputs[_BIAS], "Expand") if len(node.inputs) > _BIAS else None
    whole = extents(widened.inputs[0]) if widened else None
    queries = extents(query)
    if widened and whole and queries and whole[2] == queries[1] != 1:
        node.replace_input_with(_BIAS, widened.inputs[0])


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

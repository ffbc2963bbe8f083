"""Sums of pictures: with the group norm behind them as `SkipGroupNorm`, else as `BiasAdd`; each
takes the biases of the summands.

A residual block of a UNet sums twice, once with the embedding of the time and once with its input:

    convolution with bias -> Add embedding [N, 1, 1, C] -> GroupNorm
    convolution with bias -> Add residual [N, H, W, C]  -> GroupNorm
                                                       `-> the next residual

`SkipGroupNorm` reads the convolution and what is added to it, and writes the norm and the sum. A
convolution's bias is a kernel of its own in CUDA's provider, and costs nothing here.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.SkipGroupNorm
"""

from dataclasses import dataclass

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.biases import biased
from engine_build.target.onnxruntime_cuda.kernels import takes
from engine_build.target.onnxruntime_cuda.patterns import (
    DOMAIN,
    extents,
    has_one_reader,
    is_residual,
    producer,
    rank,
    width,
)
from engine_build.target.onnxruntime_cuda.values import (
    constant,
    constant_sum,
    like,
    own_operator,
)

_MOVES = ("Reshape", "Transpose", "Unsqueeze")


@dataclass(frozen=True, slots=True)
class _Summand:
    """A picture `[N, H, W, C]` without its bias."""

    raw: ir.Value
    bias: ir.Value | None


def fuse_skip_group_norms(model: ir.Model) -> None:
    """Fuse group norms of sums, channels last, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type == "GroupNorm":
            add = producer(node.inputs[0], "Add")
            answers = (node.outputs[0], *(add.outputs if add is not None else ()))
            if add is not None and not any(value.is_graph_output() for value in answers):
                _fuse_norm(node, add, graph)


def fuse_picture_sums(model: ir.Model) -> None:
    """Fuse sums of pictures with a bias that no group norm follows, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type == "Add" and rank(node.outputs[0]) == 4 and is_residual(node):
            _fuse_sum(node, graph)


def _fuse_norm(norm: ir.Node, add: ir.Node, graph: ir.Graph) -> None:
    first, second = add.inputs
    assert first is not None
    assert second is not None
    of_first = _embedding(first, second, add, graph)
    of_second = None if of_first is not None else _embedding(second, first, add, graph)
    embedding, picture = (of_first, second) if of_first is not None else (of_second, first)
    if embedding is not None:
        summand = _without_bias(picture)
        node = _skip_norm(norm, summand.raw, embedding, summand.bias)
    elif is_residual(add):
        one, other = _without_bias(first), _without_bias(second)
        node = _skip_norm(norm, one.raw, other.raw, constant_sum(one.bias, other.bias, graph))
    else:
        return
    graph.insert_before(add, node)
    norm.outputs[0].replace_all_uses_with(node.outputs[0])
    add.outputs[0].replace_all_uses_with(node.outputs[1])


def _skip_norm(norm: ir.Node, raw: ir.Value, skip: ir.Value, bias: ir.Value | None) -> ir.Node:
    """The norm of `raw + skip + bias`; its output 1 is the sum."""
    _, gamma, beta = norm.inputs
    name = norm.outputs[0].name
    return ir.node(
        "SkipGroupNorm",
        [raw, gamma, beta, skip, bias],
        norm.attributes,
        domain=DOMAIN,
        outputs=[like(norm.outputs[0], f"{name}.skip"), like(raw, f"{name}.sum")],
        name=f"{name}.skip_norm",
    )


def _fuse_sum(add: ir.Node, graph: ir.Graph) -> None:
    first, second = add.inputs
    assert first is not None
    assert second is not None
    if not takes("BiasAdd", first.dtype) or not any(map(_bias, (first, second))):
        return
    one, other = _without_bias(first), _without_bias(second)
    bias = constant_sum(one.bias, other.bias, graph)
    assert bias is not None
    inputs = [_rows(one.raw, add, graph), bias, _rows(other.raw, add, graph)]
    node = own_operator("BiasAdd", inputs, inputs[0])
    shape = ir.Value(
        name=f"{node.name}.shape", shape=ir.Shape([4]), type=ir.TensorType(ir.DataType.INT64)
    )
    picture = like(add.outputs[0], f"{node.name}.picture")
    back = [
        ir.node("Shape", [one.raw], outputs=[shape], name=f"{shape.name}.node"),
        ir.node("Reshape", [node.outputs[0], shape], outputs=[picture], name=picture.name),
    ]
    graph.insert_before(add, [node, *back])
    add.outputs[0].replace_all_uses_with(picture)


def _bias(value: ir.Value) -> ir.Value | None:
    """The bias `[C]` of a picture that a convolution or a matrix product made for one reader."""
    if not has_one_reader(value):
        return None
    convolution = producer(value, "NhwcConv")
    if convolution is not None:
        return convolution.inputs[2] if len(convolution.inputs) == 3 else None
    rows = _reshaped_rows(value)
    product = biased(rows)
    return product.bias if product is not None else None


def _without_bias(value: ir.Value) -> _Summand:
    """A picture, and the bias that is taken from it here."""
    bias, made = _bias(value), value.producer()
    if bias is None or made is None:
        return _Summand(value, None)
    if made.op_type == "NhwcConv":
        made.resize_inputs(2)
    else:
        product = biased(made.inputs[0])
        assert product is not None
        made.replace_input_with(0, product.raw)
    return _Summand(value, bias)


def _reshaped_rows(picture: ir.Value) -> ir.Value | None:
    """The rows `[N, H * W, C]` that a picture was until a Reshape; None for another picture."""
    reshape = producer(picture, "Reshape")
    rows = reshape.inputs[0] if reshape is not None else None
    before, behind = extents(rows), extents(picture)
    if before is None or behind is None or len(before) != 3:
        return None
    return rows if (before[0], before[2]) == (behind[0], behind[3]) else None


def _embedding(
    value: ir.Value, picture: ir.Value, add: ir.Node, graph: ir.Graph
) -> ir.Value | None:
    """The vectors `[N, 1, 1, C]` that a value adds to every pixel of a picture; None for another
    value. Transposes of vectors are left out: each would be a copy of its own."""
    own, whole = extents(value), extents(picture)
    if own is None or whole is None or len(whole) != 4 or own != (whole[0], 1, 1, whole[3]):
        return None
    vectors = _vectors(value)
    if vectors is None:
        return value
    name = f"{add.outputs[0].name}.vectors"
    axes = constant(graph, f"{name}.axes", [1, 2])
    spread = like(value, name)
    made = ir.node("Unsqueeze", [vectors, axes], outputs=[spread], name=f"{name}.node")
    before = value.producer()
    assert before is not None
    graph.insert_before(before, made)
    return spread


def _vectors(value: ir.Value) -> ir.Value | None:
    """The vectors `[N, C]` that nodes made `[N, 1, 1, C]` of, each number in its order."""
    made = producer(value, *_MOVES)
    while made is not None and _keeps_order(made):
        source = made.inputs[0]
        if source is not None and rank(source) == 2 and width(source) == width(value):
            return source
        made = producer(source, *_MOVES)
    return None


def _keeps_order(node: ir.Node) -> bool:
    """True where a node moves no axis but those of a single element."""
    if node.op_type != "Transpose":
        return True
    shape, order = extents(node.inputs[0]), node.attributes.get("perm")
    if shape is None or order is None:
        return False
    moved = [axis for axis in order.as_ints() if shape[axis] != 1]
    return moved == sorted(moved)


def _rows(picture: ir.Value, add: ir.Node, graph: ir.Graph) -> ir.Value:
    """A picture `[N, H, W, C]`, a summand of an Add, as rows `[N, H * W, C]`."""
    reshaped = _reshaped_rows(picture)
    if reshaped is not None:
        return reshaped
    assert picture.shape is not None
    name = f"{add.outputs[0].name}.{picture.name}.rows"
    rows = ir.Value(
        name=name, shape=ir.Shape([picture.shape[0], None, picture.shape[3]]), type=picture.type
    )
    shape = constant(graph, f"{name}.shape", [0, -1, width(picture) or 0])
    node = ir.node("Reshape", [picture, shape], outputs=[rows], name=f"{name}.node")
    made = picture.producer()
    if made is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(made, node)
    return rows

"""`RotatedHeads`: queries, keys or values of one or two streams of tokens, ready for attention.

    product -> Add bias -> Reshape [R, S, heads, D] -> RMS norm of each head -> Concat of streams
            -> rotation by the token's place -> attention

One kernel of ours does all of this. The tables of cosines and sines stay in fp32.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir
import onnx_ir.passes.common as passes

from engine_build.target.onnxruntime_cuda.biases import biased_product
from engine_build.target.onnxruntime_cuda.casts import narrow_early
from engine_build.target.onnxruntime_cuda.identities import remove_identities
from engine_build.target.onnxruntime_cuda.operators import ROTATED_HEADS, our_operator
from engine_build.target.onnxruntime_cuda.patterns import (
    has_one_reader,
    made_by,
    producer,
    rank,
    uncast,
)
from engine_build.target.onnxruntime_cuda.rms_norm import RmsNorm, rms_norm_of
from engine_build.target.onnxruntime_cuda.rotations import Turn, turn_of
from engine_build.target.onnxruntime_cuda.values import (
    as_dtype,
    constant,
    put_value,
)

_HEADS_INSIDE = (0, 2, 1, 3)
"""The order of axes that swaps tokens and heads."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream's part of the heads: a product with a bias, and the norm of its heads."""

    raw: ir.Value
    """`[R, S, C]`."""
    bias: ir.Value | None = None
    weight: ir.Value | None = None
    epsilon: float = 0.0


@dataclass(frozen=True, slots=True)
class _Extents:
    """Extents of heads `[R, S, heads, D]`."""

    rows: int | ir.SymbolicDim
    tokens: int | ir.SymbolicDim
    heads: int
    width: int


def fuse_rotated_heads(model: ir.Model) -> None:
    """Fuse the norms and rotations of queries and keys, in place."""
    tables = _Tables(model.graph)
    for node in list(model.graph):
        turn = turn_of(node)
        if turn is not None:
            _fuse_turn(turn, tables, model.graph)
    passes.RemoveUnusedNodesPass()(model)
    # Casts stand between what is swapped twice, split off and put together again.
    narrow_early(model)
    remove_identities(model)


def fuse_heads(model: ir.Model) -> None:
    """Fuse what adds biases to an attention's inputs, and joins those of two streams, in place."""
    for node in list(model.graph):
        if node.op_type == "MultiHeadAttention":
            for index in range(min(3, len(node.inputs))):
                _fuse_input(node, index, model.graph)


def _fuse_turn(turn: Turn, tables: "_Tables", graph: ir.Graph) -> None:
    """Put the operator in the place of a rotation, with the norms and streams before it."""
    heads, swapped = _tokens_first(turn.source)
    extents = _extents(heads) if heads is not None else None
    streams = _streams(heads) if heads is not None else None
    if heads is None or extents is None or streams is None:
        return
    if not _fits(turn.cosines, extents, swapped=swapped):
        return
    name = str(turn.output.name)
    node = _heads_node(
        name,
        streams,
        extents,
        graph,
        (tables.of(turn.cosines), tables.of(turn.sines), turn.halves),
    )
    made = node.outputs[0]
    shape = constant(graph, f"{name}.shape", [0, 0, extents.heads, extents.width])
    apart = ir.Value(name=f"{name}.apart", shape=heads.shape, type=made.type)
    nodes = [node, ir.node("Reshape", [made, shape], outputs=[apart], name=f"{name}.apart.node")]
    if swapped:
        made = ir.Value(name=f"{name}.swapped", shape=turn.output.shape, type=made.type)
        order = {"perm": _HEADS_INSIDE}
        nodes.append(ir.node("Transpose", [apart], order, outputs=[made], name=f"{made.name}.node"))
    last = turn.output.producer()
    assert last is not None
    graph.insert_before(last, nodes)
    put_value(nodes[-1].outputs[0], turn.output, graph)


def _fits(table: ir.Value, heads: _Extents, *, swapped: bool) -> bool:
    """True for a table of every token, the same for all heads: `[1 or R, S, 1, D or D / 2]`."""
    assert table.shape is not None
    *rows, tokens, alone, columns = table.shape
    if swapped:
        tokens, alone = alone, tokens
    fits = alone == 1 and tokens == heads.tokens and rows in ([], [1], [heads.rows])
    return fits and columns in (heads.width, heads.width // 2) and heads.width % 2 == 0


def _tokens_first(value: ir.Value) -> tuple[ir.Value | None, bool]:
    """Heads as `[R, S, heads, D]`, and True where `value` has heads before tokens."""
    swap = producer(value, "Transpose")
    if swap is None:
        return value, False
    order = swap.attributes.get("perm")
    inside = order is not None and tuple(order.as_ints()) == _HEADS_INSIDE
    return (uncast(swap.inputs[0]), True) if inside else (None, False)


def _streams(heads: ir.Value) -> tuple[Stream, ...] | None:
    """The one or two streams that heads `[R, S, heads, D]` are made of."""
    joined = producer(heads, "Concat")
    if joined is None:
        only = _stream(heads)
        return None if only is None else (only,)
    if len(joined.inputs) != 2 or joined.attributes["axis"].as_int() not in (1, -3):
        return None
    found = [_stream(uncast(each)) for each in joined.inputs]
    if any(each is None for each in found):
        return None
    first, second = (each for each in found if each is not None)
    if (first.weight is None) != (second.weight is None) or first.epsilon != second.epsilon:
        return None
    return first, second


def _stream(heads: ir.Value | None) -> Stream | None:
    """The stream that ends as `[R, S, heads, D]`."""
    if heads is None:
        return None
    weighted = producer(heads, "Mul")
    if weighted is not None:
        norm = _norm_ending_with(weighted)
        inner = _stream(norm.source) if norm is not None else None
        if norm is None or inner is None or inner.weight is not None:
            return None
        return replace(inner, weight=norm.weight, epsilon=norm.epsilon)
    split = producer(heads, "Reshape")
    raw = uncast(split.inputs[0]) if split is not None else None
    if raw is None or not _are_heads_of(heads, raw):
        return None
    product = biased_product(producer(raw, "Add"))
    return Stream(raw) if product is None else Stream(product.raw, product.bias)


def _are_heads_of(heads: ir.Value, whole: ir.Value) -> bool:
    """True for `[R, S, heads, D]` beside `[R, S, heads * D]`: no Reshape has mixed tokens."""
    extents = _extents(heads)
    if extents is None or whole.shape is None or len(whole.shape) != 3:
        return False
    rows, tokens, channels = whole.shape
    # With these channels, the rows and the tokens change together.
    kept = extents.rows == rows or extents.tokens == tokens
    return kept and channels == extents.heads * extents.width


def _norm_ending_with(weighted: ir.Node) -> RmsNorm | None:
    """The RMS norm whose last operator is a Mul."""
    for value in weighted.inputs:
        scaled = made_by(value, "Mul")
        for each in scaled.inputs if scaled is not None else ():
            reciprocal = made_by(each, "Reciprocal")
            found = rms_norm_of(reciprocal) if reciprocal is not None else None
            if found is not None and found.output is weighted.outputs[0]:
                return found
    return None


def _extents(heads: ir.Value) -> _Extents | None:
    """The extents of heads; None where there are not four axes, the last two of known extents."""
    if heads.shape is None or len(heads.shape) != 4:
        return None
    rows, tokens, count, width = heads.shape
    if not isinstance(count, int) or not isinstance(width, int):
        return None
    return _Extents(rows, tokens, count, width)


def _heads_node(
    name: str,
    streams: Sequence[Stream],
    extents: _Extents,
    graph: ir.Graph,
    turned: tuple[ir.Value, ir.Value, bool] | None = None,
) -> ir.Node:
    """The operator; its output is `[R, S, C]`. `turned`: the tables, and True for halves."""
    dtype = streams[0].raw.dtype
    assert dtype is not None
    given: list[ir.Value | None] = [None] * 6
    for index, each in enumerate(streams):
        parts = (each.raw, each.bias, each.weight)
        given[3 * index : 3 * index + 3] = [as_dtype(part, dtype, graph) for part in parts]
    if turned is not None:
        given += turned[:2]
    settings = {
        "heads": extents.heads,
        "epsilon": streams[0].epsilon,
        "halves": int(turned is not None and turned[2]),
    }
    shape = ir.Shape([extents.rows, extents.tokens, extents.heads * extents.width])
    made = ir.Value(name=f"{name}.heads", shape=shape, type=ir.TensorType(dtype))
    return our_operator(ROTATED_HEADS, given, [made], settings)


def _fuse_input(attention: ir.Node, index: int, graph: ir.Graph) -> None:
    """Put the operator in the place of queries, keys or values that have biases or two streams."""
    value = uncast(attention.inputs[index])
    if value is None or rank(value) != 3 or not has_one_reader(value):
        return
    merged = producer(value, "Reshape")
    heads = uncast(merged.inputs[0]) if merged is not None else None
    if heads is not None and producer(heads, "Concat") is not None:
        streams = _streams(heads) if _are_heads_of(heads, value) else None
        extents = _extents(heads)
    else:
        product = biased_product(producer(value, "Add"))
        streams = None if product is None else (Stream(product.raw, product.bias),)
        extents = _whole(value, attention.attributes["num_heads"].as_int())
    if streams is None or extents is None or any(each.weight is not None for each in streams):
        return
    node = _heads_node(str(value.name), streams, extents, graph)
    graph.insert_before(attention, node)
    put_value(node.outputs[0], value, graph)


def _whole(value: ir.Value, heads: int) -> _Extents | None:
    """The extents of heads that a value `[R, S, C]` has, side by side."""
    assert value.shape is not None
    rows, tokens, channels = value.shape
    if not isinstance(channels, int) or channels % heads:
        return None
    return _Extents(rows, tokens, heads, channels // heads)


class _Tables:
    """Tables of a graph's rotations as `[1 or R, S, E]`, each made once."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._made: dict[ir.Value, ir.Value] = {}

    def of(self, table: ir.Value) -> ir.Value:
        """A table without the axis of extent 1 for the heads."""
        if table not in self._made:
            self._made[table] = self._without_heads(table)
        return self._made[table]

    def _without_heads(self, table: ir.Value) -> ir.Value:
        assert table.shape is not None
        axis = len(table.shape) - (2 if table.shape[-2] == 1 else 3)
        extents = [extent for index, extent in enumerate(table.shape) if index != axis]
        squeezed = self._put("Squeeze", table, [axis], extents)
        return (
            squeezed if len(extents) == 3 else self._put("Unsqueeze", squeezed, [0], [1, *extents])
        )

    def _put(
        self, op_type: str, source: ir.Value, axes: list[int], extents: list[int | ir.SymbolicDim]
    ) -> ir.Value:
        name = f"{source.name}.{op_type.lower()}"
        made = ir.Value(name=name, shape=ir.Shape(extents), type=source.type)
        wanted = constant(self._graph, f"{name}.axes", axes)
        node = ir.node(op_type, [source, wanted], outputs=[made], name=f"{name}.node")
        maker = source.producer()
        if maker is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            self._graph.insert_after(maker, node)
        return made

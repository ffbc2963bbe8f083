"""Our operators as plain ones, so that a graph with them can be run on the CPU.

As functions they would need every input that a node may leave out; they are written out instead.
"""

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.operators import (
    GATED_ACTIVATION,
    GATED_SUM_NORM,
    ROTATED_HEADS,
)
from engine_build.target.onnxruntime_cuda.patterns import OURS
from engine_build.target.onnxruntime_cuda.values import constant


def write_out_operators(model: ir.Model) -> None:
    """Put plain operators, which compute in fp32, in the place of those of ours."""
    for node in list(model.graph):
        if node.domain == OURS:
            _WRITTEN[node.op_type](_Writer(model.graph, node))
            model.graph.remove(node, safe=True)


class _Writer:
    """Writes plain nodes before one of ours."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self._graph = graph
        self.node = node
        self._count = 0

    def given(self, index: int) -> ir.Value | None:
        """An input of the node in fp32; None where the node leaves it out."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        return None if value is None else self.put("Cast", value, to=ir.DataType.FLOAT.value)

    def put(self, op_type: str, *inputs: ir.Value | None, **settings: int | str) -> ir.Value:
        """Write a node of one output, and return that."""
        return self.put_many(op_type, inputs, 1, settings)[0]

    def put_many(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        outputs: int,
        settings: Mapping[str, int | str],
    ) -> Sequence[ir.Value]:
        """Write a node, and return its outputs."""
        made = [ir.Value(name=self._name()) for _ in range(outputs)]
        self._graph.insert_before(
            self.node, ir.node(op_type, inputs, settings, outputs=made, name=self._name())
        )
        return made

    def whole(self, *numbers: int) -> ir.Value:
        """A vector of integers."""
        return constant(self._graph, self._name(), numbers)

    def number(self, content: float) -> ir.Value:
        """A single number in fp32."""
        return constant(self._graph, self._name(), content, ir.DataType.FLOAT)

    def answer(self, index: int, value: ir.Value) -> None:
        """Let a value be an output of the node, in the dtype of the node's first input."""
        output, source = self.node.outputs[index], self.node.inputs[0]
        assert source is not None
        rounded = self.put("CastLike", value, source)
        rounded.shape, rounded.type = output.shape, output.type
        name = output.name
        answers = output.is_graph_output()
        output.replace_all_uses_with(rounded, replace_graph_outputs=True)
        if answers:
            output.name, rounded.name = f"{name}.replaced", name

    def setting(self, name: str) -> int:
        """An attribute that is an integer."""
        return self.node.attributes[name].as_int()

    def rms(self, value: ir.Value, epsilon: float) -> ir.Value:
        """A value over the root of its mean square along the last axis."""
        squared = self.put("Mul", value, value)
        mean = self.put("ReduceMean", squared, self.whole(-1), keepdims=1)
        root = self.put("Sqrt", self.put("Add", mean, self.number(epsilon)))
        return self.put("Div", value, root)

    def _name(self) -> str:
        self._count += 1
        return f"{self.node.name}.plain.{self._count}"


def _gated_sum_norm(write: _Writer) -> None:
    x, branch, bias, branch_weight, gate, weight, scale, shift = map(write.given, range(8))
    attributes = write.node.attributes
    assert x is not None
    total = x
    if branch is not None:
        added = branch if bias is None else write.put("Add", branch, bias)
        if branch_weight is not None:
            normed = write.rms(added, attributes["branch_epsilon"].as_float())
            added = write.put("Mul", normed, branch_weight)
        if gate is not None:
            opened = write.put("Tanh", gate) if write.setting("gate_tanh") else gate
            added = write.put("Mul", _rows(write, opened), added)
        total = write.put("Add", x, added)
        if len(write.node.outputs) > 1 and write.node.outputs[1].name:
            write.answer(1, total)
    if not write.node.outputs[0].name:
        return
    epsilon, centred = attributes["epsilon"].as_float(), total
    if attributes["norm"].as_string() == "layer":
        mean = write.put("ReduceMean", total, write.whole(-1), keepdims=1)
        centred = write.put("Sub", total, mean)
    made = write.rms(centred, epsilon)
    made = made if weight is None else write.put("Mul", made, weight)
    if scale is not None:
        factor = write.put("Add", _rows(write, scale), write.number(1.0))
        made = write.put("Mul", made, factor)
    write.answer(0, made if shift is None else write.put("Add", made, _rows(write, shift)))


def _rows(write: _Writer, modulation: ir.Value) -> ir.Value:
    """A modulation `[R, C]` or `[R, 1, C]` as `[R, 1, C]`."""
    extents = write.put("Shape", modulation)
    row = write.put("Slice", extents, write.whole(0), write.whole(1))
    return write.put("Reshape", modulation, write.put("Concat", row, write.whole(1, -1), axis=0))


def _rotated_heads(write: _Writer) -> None:
    heads, attributes = write.setting("heads"), write.node.attributes
    streams = []
    for first in (0, 3):
        raw, bias, weight = (write.given(first + offset) for offset in range(3))
        if raw is None:
            continue
        whole = raw if bias is None else write.put("Add", raw, bias)
        stream = write.put("Reshape", whole, write.whole(0, 0, heads, -1))
        if weight is not None:
            normed = write.rms(stream, attributes["epsilon"].as_float())
            stream = write.put("Mul", normed, weight)
        streams.append(stream)
    made = streams[0] if len(streams) == 1 else write.put("Concat", *streams, axis=1)
    cosines, sines = write.given(6), write.given(7)
    if cosines is not None and sines is not None:
        made = _turned(write, made, cosines, sines)
    write.answer(0, write.put("Reshape", made, write.whole(0, 0, -1)))


def _turned(write: _Writer, heads: ir.Value, cosines: ir.Value, sines: ir.Value) -> ir.Value:
    """Heads `[R, S, N, D]` turned by tables `[1 or R, S, D or D / 2]`."""
    halves = bool(write.setting("halves"))
    # Pairs on an axis of their own: the last one, or for halves the one before it.
    axis = 3 if halves else 4
    order = (2, -1) if halves else (-1, 2)
    pairs = write.put("Reshape", heads, write.whole(0, 0, 0, *order))
    real, imaginary = write.put_many("Split", [pairs], 2, {"axis": axis, "num_outputs": 2})
    swapped = write.put("Concat", write.put("Neg", imaginary), real, axis=axis)
    cosine, sine = (_table(write, each, heads, halves=halves) for each in (cosines, sines))
    straight = write.put("Mul", pairs, cosine)
    turned = write.put("Add", straight, write.put("Mul", swapped, sine))
    return write.put("Reshape", turned, write.put("Shape", heads))


def _table(write: _Writer, table: ir.Value, heads: ir.Value, *, halves: bool) -> ir.Value:
    """A table as `[1 or R, S, 1, ...]`, one number for each element of a pair, or for both."""
    width = write.put("Shape", heads, start=3, end=4)
    columns = write.put("Shape", table, start=2, end=3)
    half = write.put("Div", width, write.whole(2))
    each = write.put("Div", columns, half)
    parts = (each, half) if halves else (half, each)
    shape = write.put("Concat", write.whole(0, 0, 1), *parts, axis=0)
    # Zeros copy an extent from the same place, which the one in front of the heads is not.
    rows = write.put("Unsqueeze", table, write.whole(2))
    return write.put("Reshape", rows, shape)


def _gated_activation(write: _Writer) -> None:
    gate, gate_bias, value, value_bias, before = map(write.given, range(5))
    assert gate is not None
    opened = gate if gate_bias is None else write.put("Add", gate, gate_bias)
    if write.setting("packed"):
        value, opened = write.put_many("Split", [opened], 2, {"axis": -1, "num_outputs": 2})
    elif value is not None and value_bias is not None:
        value = write.put("Add", value, value_bias)
    kind = write.node.attributes["activation"].as_string()
    if kind == "silu":
        made = write.put("Mul", opened, write.put("Sigmoid", opened))
    else:
        made = write.put("Gelu", opened, approximate="tanh" if kind == "gelu_tanh" else "none")
    made = made if value is None else write.put("Mul", value, made)
    write.answer(0, made if before is None else write.put("Concat", before, made, axis=-1))


_WRITTEN: Mapping[str, Callable[[_Writer], None]] = {
    GATED_ACTIVATION: _gated_activation,
    GATED_SUM_NORM: _gated_sum_norm,
    ROTATED_HEADS: _rotated_heads,
}

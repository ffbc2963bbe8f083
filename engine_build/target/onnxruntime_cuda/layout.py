"""Puts pictures' channels last, in convolutions and between them, as CUDA's kernels want them.

A Conv becomes `com.microsoft.NhwcConv`, whose weights a Transpose behind the initializer arranges,
so that initializers keep their names and shapes; ONNX Runtime folds it when it opens the graph.
Pictures stay with channels last through all that works on single elements, so that Transposes are
left only where a picture comes in, goes out, or is read as something else.
"""

from collections.abc import Sequence

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.kernels import takes
from engine_build.target.onnxruntime_cuda.patterns import DOMAIN, shape_part
from engine_build.target.onnxruntime_cuda.values import constant

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
"""The orders of axes that put a picture's channels last, and back to where they were."""

_ELEMENTWISE = frozenset(
    {
        "Add",
        "Cast",
        "Clip",
        "Div",
        "Gelu",
        "Max",
        "Min",
        "Mul",
        "Relu",
        "Round",
        "Sigmoid",
        "Sub",
        "Tanh",
    }
)


def put_channels_last(model: ir.Model) -> None:
    """Rearrange a typed graph, in place. Nodes that are read by none any more stay in the graph."""
    _ChannelsLast(model.graph).run()


class _ChannelsLast:
    """Rearranges one graph. `_twins` has the value with channels last of each rearranged value."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._twins: dict[ir.Value, ir.Value] = {}
        self._rearranged: list[ir.Node] = []

    def run(self) -> None:
        """Rearrange every node, in topological order: its inputs are decided before it."""
        for node in list(self._graph):
            made = self._rearrange(node)
            if made is not None:
                self._graph.insert_before(node, made)
                twin, value = made.outputs[0], node.outputs[0]
                twin.name, twin.type = f"{value.name}.last", value.type
                twin.shape = permuted(value.shape, LAST)
                self._twins[value] = twin
                self._rearranged.append(node)
        for node in self._rearranged:
            self._put_back(node)

    def _rearrange(self, node: ir.Node) -> ir.Node | None:
        """The node with channels last; None where the node stays as it is."""
        handlers = {
            "Conv": self._convolution,
            "GroupNorm": self._group_norm,
            "Concat": self._concatenation,
            "Resize": self._resize,
            "Shape": self._shape,
            "Transpose": self._move,
            **dict.fromkeys(_ELEMENTWISE, self._elementwise),
        }
        handler = handlers.get(node.op_type)
        return handler(node) if handler is not None else None

    def _convolution(self, node: ir.Node) -> ir.Node | None:
        picture, weight, *bias = node.inputs
        assert picture is not None
        assert weight is not None
        if not _is_picture(picture) or not takes("NhwcConv", picture.dtype):
            return None
        arranged = self._transposed(
            weight, LAST, node, f"{weight.name}.{node.outputs[0].name}.last"
        )
        inputs = [self._last(picture, node), arranged, *bias]
        return ir.node("NhwcConv", inputs, node.attributes, domain=DOMAIN, name=_name(node))

    def _group_norm(self, node: ir.Node) -> ir.Node:
        picture, gamma, beta = node.inputs
        assert picture is not None
        attributes = {**node.attributes, "channels_last": ir.AttrInt64("channels_last", 1)}
        inputs = [self._last(picture, node), gamma, beta]
        return ir.node("GroupNorm", inputs, attributes, domain=DOMAIN, name=_name(node))

    def _elementwise(self, node: ir.Node) -> ir.Node | None:
        if not self._follows(node):
            return None
        inputs: list[ir.Value | None] = []
        for value in node.inputs:
            if value is None or _is_single(value):
                inputs.append(value)
            elif _is_picture(value):
                inputs.append(self._last(value, node))
            else:
                return None
        return ir.node(node.op_type, inputs, node.attributes, name=_name(node))

    def _concatenation(self, node: ir.Node) -> ir.Node | None:
        if node.attributes["axis"].as_int() != 1 or not self._follows(node):
            return None
        inputs = [self._last(value, node) for value in node.inputs if value is not None]
        return ir.node("Concat", inputs, {"axis": 3}, name=_name(node))

    def _resize(self, node: ir.Node) -> ir.Node | None:
        """Rearranges only nearest neighbours: the kernels of other modes want channels first."""
        picture, region, *sizes = node.inputs
        mode = node.attributes.get("mode")
        nearest = mode is None or mode.as_string() == "nearest"
        if picture not in self._twins or region is not None or not nearest:
            return None
        if "axes" in node.attributes:
            return None
        inputs = [self._twins[picture], None]
        inputs += [None if size is None else self._gathered(size, LAST, node) for size in sizes]
        return ir.node("Resize", inputs, node.attributes, name=_name(node))

    def _shape(self, node: ir.Node) -> None:
        """Let a Shape read the rearranged picture: no Transpose is made for a shape alone."""
        twin = self._twins.get(node.inputs[0]) if node.inputs[0] is not None else None
        output = node.outputs[0]
        axes = range(4)[shape_part(node)]
        if twin is None or len(axes) not in (1, 4) or output.is_graph_output():
            return
        place = LAST.index(axes[0]) if len(axes) == 1 else None
        part = {} if place is None else {"start": place, "end": place + 1}
        found = ir.node("Shape", [twin], part, name=_name(node))
        shape = found.outputs[0]
        shape.name, shape.type, shape.shape = f"{output.name}.last", output.type, output.shape
        self._graph.insert_before(node, found)
        if place is None:
            shape = self._gathered(shape, FIRST, node)
        output.replace_all_uses_with(shape)

    def _move(self, node: ir.Node) -> None:
        """Take twins for Transposes: the input of a Transpose that puts channels first is its
        output's twin; readers of a Transpose that puts channels last read its input's twin.
        """
        source, output = node.inputs[0], node.outputs[0]
        assert source is not None
        order = tuple(node.attributes["perm"].as_ints())
        if order == FIRST:
            self._twins[output] = source
        elif order == LAST and source in self._twins and not output.is_graph_output():
            output.replace_all_uses_with(self._twins[source])

    def _put_back(self, node: ir.Node) -> None:
        """Give nodes that still read a rearranged node's output the picture with channels first."""
        value = node.outputs[0]
        first = self._transposed(self._twins[value], FIRST, node, f"{value.name}.first")
        first.shape = value.shape
        if value.is_graph_output():
            first.name, value.name = value.name, first.name
        value.replace_all_uses_with(first, replace_graph_outputs=True)

    def _follows(self, node: ir.Node) -> bool:
        """True where a node makes a picture of a picture whose channels are last already."""
        known = any(value in self._twins for value in node.inputs if value is not None)
        return known and _is_picture(node.outputs[0])

    def _last(self, value: ir.Value, before: ir.Node) -> ir.Value:
        if value not in self._twins:
            self._twins[value] = self._transposed(value, LAST, before, f"{value.name}.last")
        return self._twins[value]

    def _transposed(
        self, value: ir.Value, order: Sequence[int], before: ir.Node, name: str
    ) -> ir.Value:
        shape = permuted(value.shape, order)
        output = ir.Value(name=name, shape=shape, type=value.type)
        node = ir.node("Transpose", [value], {"perm": order}, outputs=[output], name=f"{name}.move")
        self._graph.insert_before(before, node)
        return output

    def _gathered(self, value: ir.Value, order: Sequence[int], before: ir.Node) -> ir.Value:
        """The numbers of a shape, in another order; constants stay constants."""
        name = f"{value.name}.{before.outputs[0].name}.order"
        if value.const_value is not None:
            assert value.dtype is not None
            numbers = value.const_value.numpy()[list(order)].tolist()
            return constant(self._graph, name, numbers, value.dtype)
        inputs = [value, constant(self._graph, f"{name}.indices", order)]
        output = ir.Value(name=name, shape=ir.Shape([4]), type=value.type)
        node = ir.node("Gather", inputs, {"axis": 0}, outputs=[output], name=name)
        self._graph.insert_before(before, node)
        return output


def permuted(shape: ir.Shape | None, order: Sequence[int]) -> ir.Shape | None:
    """A shape with its axes in another order; None where it is not known."""
    return None if shape is None else ir.Shape([shape[axis] for axis in order])


def _is_picture(value: ir.Value) -> bool:
    return value.shape is not None and len(value.shape) == 4


def _is_single(value: ir.Value) -> bool:
    """True for a single number, of whatever number of axes."""
    return value.shape is not None and all(extent == 1 for extent in value.shape)


def _name(node: ir.Node) -> str:
    return f"{node.outputs[0].name}.last"

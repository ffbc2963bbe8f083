"""Columns of a tensor by one Split: the coefficients of a step's row, and the rows of its history.

The exporter takes each column by a Gather of its own, a launch for a handful of numbers.
"""

from collections import defaultdict
from collections.abc import Sequence

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import is_constant, number
from engine_build.target.onnxruntime_cuda.values import constant

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def split_columns(model: ir.Model) -> None:
    """Let one Split take the columns of each value of which Gathers take most, in place."""
    graph = model.graph
    groups: dict[tuple[ir.Value, int], list[ir.Node]] = defaultdict(list)
    for node in graph:
        source = node.inputs[0] if node.op_type == "Gather" else None
        if source is not None and _takes_column(node):
            groups[source, node.attributes["axis"].as_int()].append(node)
    for (source, axis), nodes in groups.items():
        assert source.shape is not None
        taken, there = len(nodes), source.shape[axis]
        if taken > 1 and isinstance(there, int) and 2 * taken > there:
            _split(source, axis, nodes, graph)


def _takes_column(gather: ir.Node) -> bool:
    """True where a single index, a constant, picks from an axis of known extent."""
    source, index = gather.inputs
    if source is None or source.dtype not in _FLOATS or is_constant(source):
        return False
    if source.shape is None or index is None or index.shape is None or len(index.shape):
        return False
    axis = gather.attributes["axis"].as_int() if "axis" in gather.attributes else -1
    known = axis > 0 and isinstance(source.shape[axis], int)
    return known and number(index) is not None and not gather.outputs[0].is_graph_output()


def _split(source: ir.Value, axis: int, gathers: Sequence[ir.Node], graph: ir.Graph) -> None:
    assert source.shape is not None
    extents = list(source.shape)
    count = extents[axis]
    assert isinstance(count, int)
    extents[axis] = 1
    name = f"{source.name}.columns.{axis}"
    columns = [
        ir.Value(name=f"{name}.{index}", shape=ir.Shape(extents), type=source.type)
        for index in range(count)
    ]
    widths = constant(graph, f"{name}.widths", [1] * count)
    axes = constant(graph, f"{name}.axes", [axis])
    made = ir.node("Split", [source, widths], {"axis": axis}, outputs=columns, name=name)
    graph.insert_before(gathers[0], made)
    for gather in gathers:
        index = number(gather.inputs[1])
        assert index is not None
        output = gather.outputs[0]
        column = ir.Value(name=f"{output.name}.column", shape=output.shape, type=output.type)
        squeeze = ir.node(
            "Squeeze", [columns[int(index)], axes], outputs=[column], name=f"{column.name}.node"
        )
        graph.insert_before(gather, squeeze)
        output.replace_all_uses_with(column)

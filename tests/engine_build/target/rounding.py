"""A graph in bf16 as a CPU runs it: in fp32, with every value rounded to bf16 where it is made.

ONNX Runtime's CPU provider computes nothing in bf16, and converts to it. A GPU rounds less often,
since what it computes in one kernel is not rounded in between.
"""

import onnx_ir as ir

_NARROW, _WIDE = ir.DataType.BFLOAT16, ir.DataType.FLOAT


def rounded(model: ir.Model) -> ir.Model:
    """Rewrite the graph in place; returns it. Its inputs and outputs are in fp32 already."""
    graph = model.graph
    for stored in list(graph.initializers.values()):
        if stored.dtype == _NARROW:
            _read_wide(graph, stored, graph[0], before=True)
    for node in list(graph):
        for value in node.outputs:
            if value.dtype == _NARROW:
                _round(graph, node, value)
    return model


def _round(graph: ir.Graph, node: ir.Node, made: ir.Value) -> None:
    if node.op_type == "Cast":
        _read_wide(graph, made, node)
        return
    made.dtype = _WIDE
    uses = list(made.uses())
    narrow = _cast(made, _NARROW)
    wide = _cast(narrow.outputs[0], _WIDE)
    graph.insert_after(node, [narrow, wide])
    for use in uses:
        use.node.replace_input_with(use.idx, wide.outputs[0])


def _read_wide(graph: ir.Graph, value: ir.Value, node: ir.Node, *, before: bool = False) -> None:
    uses = list(value.uses())
    wide = _cast(value, _WIDE)
    (graph.insert_before if before else graph.insert_after)(node, wide)
    for use in uses:
        use.node.replace_input_with(use.idx, wide.outputs[0])


def _cast(value: ir.Value, dtype: ir.DataType) -> ir.Node:
    name = f"{value.name}.as.{dtype.name.lower()}"
    output = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))
    return ir.node("Cast", [value], {"to": dtype.value}, outputs=[output], name=f"{name}.cast")

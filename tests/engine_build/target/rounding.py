"""A graph in 16 bits as a CPU runs it: in fp32, with every value rounded where it is made.

ONNX Runtime's CPU provider computes nothing in bf16, and converts to it; of fp16 it computes
little, and keeps fp32 between two nodes where it can, so that nothing overflows. A GPU rounds less
often, since what it computes in one kernel is not rounded in between.
"""

import onnx_ir as ir

_WIDE = ir.DataType.FLOAT


def rounded(model: ir.Model, dtype: ir.DataType = ir.DataType.BFLOAT16) -> ir.Model:
    """Rewrite a graph whose 16 bits are of `dtype`, in place; returns it.

    Its inputs and outputs are in fp32 already, or whole numbers.
    """
    graph = model.graph
    for stored in list(graph.initializers.values()):
        if stored.dtype == dtype:
            _read_wide(graph, stored, graph[0], before=True)
    for node in list(graph):
        for value in node.outputs:
            if value.dtype == dtype:
                _round(graph, node, value, dtype)
    return model


def _round(graph: ir.Graph, node: ir.Node, made: ir.Value, dtype: ir.DataType) -> None:
    if node.op_type == "Cast":
        _read_wide(graph, made, node)
        return
    made.type = ir.TensorType(_WIDE)  # its own: types are shared between values
    uses = list(made.uses())
    narrow = _cast(made, dtype)
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

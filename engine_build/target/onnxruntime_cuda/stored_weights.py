"""Reads weights as they are stored, so that opening a graph computes nothing of them.

ONNX Runtime folds what depends on weights alone on the host, when it opens a graph: a Transpose of
each matrix, 17 of 24 GB of FLUX.1's transformer, and an embedding's table in fp32. `FusedMatMul`
takes a matrix in either order, and rows can be widened after they are looked up.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.FusedMatMul
"""

from collections.abc import Mapping

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import is_constant, producer, rank
from engine_build.target.onnxruntime_cuda.values import own_operator, put_value

_TRANSPOSED: Mapping[str, int | float] = {"alpha": 1.0, "transA": 0, "transB": 1}


def fuse_transposed_products(model: ir.Model) -> None:
    """Let products read the matrices that were transposed for them, in place."""
    graph = model.graph
    for node in list(graph):
        swap = producer(node.inputs[1], "Transpose") if node.op_type == "MatMul" else None
        weight = swap.inputs[0] if swap is not None else None
        if swap is None or rank(weight) != 2 or not is_constant(weight):
            continue
        if tuple(swap.attributes["perm"].as_ints()) == (1, 0):
            made = own_operator(
                "FusedMatMul", [node.inputs[0], weight], node.outputs[0], _TRANSPOSED
            )
            graph.insert_before(node, made)
            put_value(made.outputs[0], node.outputs[0], graph)


def look_up_stored_rows(model: ir.Model) -> None:
    """Widen the rows that a Gather takes from a stored table instead of the table, in place."""
    graph = model.graph
    for node in list(graph):
        widened = producer(node.inputs[0], "Cast") if node.op_type == "Gather" else None
        table = widened.inputs[0] if widened is not None else None
        if widened is None or table is None or not table.is_initializer():
            continue
        output = node.outputs[0]
        rows = ir.Value(name=f"{output.name}.stored", shape=output.shape, type=table.type)
        inputs = [table, *node.inputs[1:]]
        graph.insert_before(
            node,
            ir.node("Gather", inputs, node.attributes, outputs=[rows], name=f"{rows.name}.node"),
        )
        put_value(rows, output, graph)

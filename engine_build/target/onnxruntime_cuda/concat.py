"""Splits Concats of many inputs into trees of smaller ones, which a capture can hold.

The text encoders of SDXL stack all of their hidden states, of which a clip skip picks one; the
larger encoder has 33. The elements only move, so that no bit changes.
"""

from collections.abc import Sequence

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.kernels import LARGEST_CONCAT


def split_concats(model: ir.Model) -> None:
    """Split every Concat of more than LARGEST_CONCAT inputs, in place."""
    for node in list(model.graph):
        if node.op_type == "Concat" and len(node.inputs) > LARGEST_CONCAT:
            _split(node, model.graph)


def _split(node: ir.Node, graph: ir.Graph) -> None:
    joined: Sequence[ir.Value | None] = node.inputs
    while len(joined) > LARGEST_CONCAT:
        parts = [
            joined[start : start + LARGEST_CONCAT]
            for start in range(0, len(joined), LARGEST_CONCAT)
        ]
        joined = [_joined(part, number, node, graph) for number, part in enumerate(parts)]
    for index, value in enumerate(joined):
        node.replace_input_with(index, value)
    node.resize_inputs(len(joined))


def _joined(
    part: Sequence[ir.Value | None], number: int, node: ir.Node, graph: ir.Graph
) -> ir.Value | None:
    first = part[0]
    if len(part) == 1 or first is None:
        return first
    name = f"{node.outputs[0].name}.from.{first.name}.{number}"
    output = ir.Value(name=name, type=node.outputs[0].type)
    made = ir.node("Concat", part, node.attributes, outputs=[output], name=f"{name}.node")
    graph.insert_before(node, made)
    return output

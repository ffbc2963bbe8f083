"""Removes nodes that leave every number as it is, which stand between what fusions look for, and
Casts of which only the shape is read.

PyTorch's exporter writes the divisions by one of diffusers' output scales. The rules for attention
leave heads that are split off and put back: a Reshape and a Transpose, and the same in return.
"""

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import number, producer, rank, same_shape


def remove_identities(model: ir.Model) -> None:
    """Let readers read the input of each such node, in place; the nodes stay, read by none."""
    for node in model.graph:
        source = _same_numbers(node)
        if source is not None and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(source)
        widened = producer(node.inputs[0], "Cast") if node.op_type == "Shape" else None
        if widened is not None:
            node.replace_input_with(0, widened.inputs[0])


def _same_numbers(node: ir.Node) -> ir.Value | None:
    """The value that a node's output equals; None where there is none."""
    if node.op_type in ("Div", "Mul"):
        return _unscaled(node)
    if node.op_type == "Transpose":
        return _untransposed(node)
    if node.op_type == "Reshape":
        return _unreshaped(node)
    return None


def _unscaled(node: ir.Node) -> ir.Value | None:
    first, second = node.inputs
    if number(second) == 1 and rank(first) and (rank(second) or 0) <= (rank(first) or 0):
        return first
    return None


def _untransposed(node: ir.Node) -> ir.Value | None:
    before = producer(node.inputs[0], "Transpose")
    if before is None:
        return None
    first, second = (tuple(each.attributes["perm"].as_ints()) for each in (before, node))
    back = tuple(first[axis] for axis in second)
    return before.inputs[0] if back == tuple(range(len(back))) else None


def _unreshaped(node: ir.Node) -> ir.Value | None:
    if same_shape(node.inputs[0], node.outputs[0]):
        return node.inputs[0]
    before = producer(node.inputs[0], "Reshape")
    if before is not None and same_shape(before.inputs[0], node.outputs[0]):
        return before.inputs[0]
    return None

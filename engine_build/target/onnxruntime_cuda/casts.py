"""Places the Casts of a typed graph.

A Cast to 16 bits goes before nodes that only move numbers, so that half as many bytes are moved;
nodes that CUDA's kernels do not take in bf16 get Casts around them.
"""

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import NARROW

_MOVES = ("Expand", "Reshape", "Transpose", "Unsqueeze")

# Of the operators that our graphs compute in bf16, ONNX Runtime 1.31 lacks kernels for these.
_NOT_IN_BF16 = ("Resize",)


def narrow_early(model: ir.Model) -> None:
    """Move Casts to 16 bits before the nodes that only move their numbers, in place; no number
    changes.
    """
    for cast in reversed(list(model.graph)):
        if cast.op_type == "Cast" and cast.outputs[0].dtype in NARROW:
            _put_early(cast, model.graph)


def widen_what_has_no_kernel(model: ir.Model) -> None:
    """Let nodes that CUDA has no kernel for in bf16 compute in fp32, in place."""
    narrow, wide = ir.TensorType(ir.DataType.BFLOAT16), ir.TensorType(ir.DataType.FLOAT)
    graph = model.graph
    for node in list(graph):
        source, output = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type not in _NOT_IN_BF16 or source is None or source.dtype != narrow.dtype:
            continue
        widened = ir.Value(name=f"{output.name}.wide_input", shape=source.shape, type=wide)
        before = ir.node("Cast", [source], {"to": wide.dtype.value}, outputs=[widened])
        narrowed = ir.Value(name=f"{output.name}.narrow", shape=output.shape, type=narrow)
        after = ir.node("Cast", [output], {"to": narrow.dtype.value}, outputs=[narrowed])
        output.replace_all_uses_with(narrowed)
        after.replace_input_with(0, output)
        output.type = wide
        node.replace_input_with(0, widened)
        graph.insert_before(node, before)
        graph.insert_after(node, after)


def _put_early(cast: ir.Node, graph: ir.Graph) -> None:
    """Put a Cast before the moves that precede it, and drop the Cast behind them."""
    moves = _moves_before(cast)
    if not moves:
        return
    first, narrow = moves[-1], cast.outputs[0]
    source = first.inputs[0]
    assert source is not None
    name = f"{source.name}.early"
    value = ir.Value(name=name, shape=source.shape, type=narrow.type)
    made = ir.node("Cast", [source], cast.attributes, outputs=[value], name=f"{name}.cast")
    graph.insert_before(first, made)
    first.replace_input_with(0, value)
    for move in moves:
        move.outputs[0].type = narrow.type
    narrow.replace_all_uses_with(moves[0].outputs[0])
    graph.remove(cast, safe=True)


def _moves_before(cast: ir.Node) -> list[ir.Node]:
    """The nodes that move the Cast's fp32 input and have no other reader, the last one first."""
    moves: list[ir.Node] = []
    value = cast.inputs[0]
    while value is not None and value.dtype == ir.DataType.FLOAT and _only_use(value):
        producer = value.producer()
        if producer is None or producer.op_type not in _MOVES or cast.outputs[0].is_graph_output():
            break
        moves.append(producer)
        value = producer.inputs[0]
    return moves


def _only_use(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()

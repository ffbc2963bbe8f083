"""Splits off a graph's prelude: the part that depends on the conditioning alone.

Cross-attention's keys and values are products of the text, which no step changes; a network that
embeds or refines its text before the picture joins does all of that without the picture. A step
reads what the prelude made as inputs.
"""

from collections.abc import Collection, Mapping, Sequence

import onnx_ir as ir
import onnx_ir.passes.common as passes

from engine_build.target.onnxruntime_cuda.host import Placement
from engine_build.target.onnxruntime_cuda.patterns import shape_part
from runtime.package.manifest import RoleRecord
from runtime.package.step_graph import TIMESTEP, conditioning_of

PRODUCTS = frozenset({"Conv", "FusedMatMul", "Gemm", "MatMul", "MultiHeadAttention", "NhwcConv"})
"""The operators that make a prelude worth its run."""


def split_conditioning(model: ir.Model, role: RoleRecord) -> ir.Model | None:
    """The prelude of a step graph, as `split_prelude`; None for a role of another kind."""
    if TIMESTEP not in role.inputs:
        return None
    return split_prelude(model, conditioning_of(role.inputs))


def split_prelude(model: ir.Model, names: Collection[str]) -> ir.Model | None:
    """Move the products that depend on the inputs `names` alone, and what depends on these, into a
    new graph, whose outputs become inputs of `model`, in place. Returns that graph, the prelude;
    None where `model` has no such product, and stays as it was.

    Nodes keep their names, values their dtypes and shapes. Each initializer lies in every graph
    that reads it; what the host computes from shapes is computed in every graph that reads it, and
    so is what costs less than a product.
    """
    sizes = _sizes(model.graph, names)
    made = [str(value.name) for value in _made_by_prelude(model.graph, names, sizes)]
    if not made:
        return None
    prelude = model.clone()
    values = _values(prelude.graph)
    prelude.graph.outputs[:] = [values[name] for name in made]
    for name, (source, axis) in sizes.items():
        _read_size(values[name], values[source], axis)
    passes.RemoveUnusedNodesPass()(prelude)
    prelude.graph.inputs[:] = [value for value in prelude.graph.inputs if value.uses()]
    values = _values(model.graph)
    for name in made:
        _let_be_input(model.graph, values[name])
    passes.RemoveUnusedNodesPass()(model)
    read = {str(value.name) for value in prelude.graph.inputs}
    kept = [value for value in model.graph.inputs if value.uses() or value.name not in read]
    model.graph.inputs[:] = kept
    return prelude


def _sizes(graph: ir.Graph, names: Collection[str]) -> Mapping[str, tuple[str, int]]:
    """The sizes that the conditioning has too: by the name of the value that a Shape makes of
    another input, the input of `names` with an axis of the same extent, and that axis.
    """
    axes: dict[int | ir.SymbolicDim, tuple[str, int]] = {
        extent: (str(value.name), axis)
        for value in graph.inputs
        if value.name in names and value.shape is not None
        for axis, extent in enumerate(value.shape)
        if isinstance(extent, ir.SymbolicDim) and extent.value is not None
    }
    found = {}
    for node in graph:
        source = node.inputs[0] if node.op_type == "Shape" else None
        if source is None or not source.is_graph_input() or source.shape is None:
            continue
        read = source.shape[shape_part(node)]
        if len(read) == 1 and read[0] in axes and source.name not in names:
            found[str(node.outputs[0].name)] = axes[read[0]]
    return found


def _made_by_prelude(
    graph: ir.Graph, names: Collection[str], sizes: Collection[str]
) -> Sequence[ir.Value]:
    """The values that the prelude makes and the rest of the graph reads, in the graph's order.

    `sizes` are values that the prelude can make of its own inputs.
    """
    if any(_has_subgraph(node) for node in graph):
        return []
    on_host = Placement(graph).on_host
    constant = set(graph.initializers.values())
    conditioned = {value for value in graph.inputs if value.name in names}
    moved: set[ir.Value] = set()
    for node in graph:
        inputs = {each for each in node.inputs if each is not None} - constant
        if not inputs:
            constant.update(node.outputs)
        elif inputs <= conditioned or node.outputs[0].name in sizes:
            conditioned.update(node.outputs)
            is_dear = node.op_type in PRODUCTS or not moved.isdisjoint(inputs)
            stays = any(each in on_host or each.is_graph_output() for each in node.outputs)
            if is_dear and not stays:
                moved.update(node.outputs)
    return [
        value
        for node in graph
        for value in node.outputs
        if value in moved and any(use.node.outputs[0] not in moved for use in value.uses())
    ]


def _has_subgraph(node: ir.Node) -> bool:
    kinds = {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}
    return any(attribute.type in kinds for attribute in node.attributes.values())


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    made = [value for node in graph for value in node.outputs]
    return {str(value.name): value for value in (*graph.inputs, *made)}


def _read_size(size: ir.Value, source: ir.Value, axis: int) -> None:
    """Let a Shape make the extent of an axis of `source`."""
    node = size.producer()
    assert node is not None
    node.replace_input_with(0, source)
    node.attributes["start"] = ir.AttrInt64("start", axis)
    node.attributes["end"] = ir.AttrInt64("end", axis + 1)


def _let_be_input(graph: ir.Graph, value: ir.Value) -> None:
    """Put an input of the same name in the place of a value that a node makes."""
    name = str(value.name)
    value.name = f"{name}.made"
    given = ir.Value(name=name, shape=value.shape, type=value.type)
    value.replace_all_uses_with(given)
    graph.inputs.append(given)

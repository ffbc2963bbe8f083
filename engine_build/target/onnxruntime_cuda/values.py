"""New values and nodes of a graph that is being rewritten."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import (
    DOMAIN,
    is_constant,
    producer,
    readers,
    uncast,
)


def like(value: ir.Value, name: str) -> ir.Value:
    """A new value of another's shape and dtype."""
    return ir.Value(name=name, shape=value.shape, type=value.type)


def constant(
    graph: ir.Graph,
    name: str,
    numbers: float | Sequence[float],
    dtype: ir.DataType = ir.DataType.INT64,
) -> ir.Value:
    """A new initializer: a single number, or a vector; a name that is taken gets a longer one."""
    while name in graph.initializers:
        name += "_"
    content = ir.tensor(numbers, dtype=dtype, name=name)
    value = ir.Value(
        name=name,
        shape=ir.Shape(content.numpy().shape),
        type=ir.TensorType(dtype),
        const_value=content,
    )
    graph.register_initializer(value)
    return value


def own_operator(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    result: ir.Value,
    attributes: Mapping[str, ir.Attr | int | float] | None = None,
) -> ir.Node:
    """A node of ONNX Runtime's own, with one output like `result`."""
    output = like(result, f"{result.name}.fused")
    return ir.node(
        op_type, inputs, attributes, domain=DOMAIN, outputs=[output], name=f"{output.name}.node"
    )


def as_dtype(value: ir.Value | None, dtype: ir.DataType, graph: ir.Graph) -> ir.Value | None:
    """A value in a dtype: one of the Casts that lead to `value`, or another Cast; None is None."""
    if value is None or value.dtype == dtype:
        return value
    if is_constant(value):
        return in_dtype(value, dtype, graph)
    source = uncast(value)
    assert source is not None
    while value is not source:
        cast = producer(value, "Cast")
        assert cast is not None
        value = cast.inputs[0]
        assert value is not None
        if value.dtype == dtype:
            return value
    for reader in readers(source):
        if reader.op_type == "Cast" and reader.outputs[0].dtype == dtype:
            return reader.outputs[0]
    return _cast(source, dtype, graph)


def put_value(made: ir.Value, replaced: ir.Value, graph: ir.Graph) -> None:
    """Let readers read `made` in the place of `replaced`, behind a Cast where their dtypes differ;
    Casts of `replaced` to the dtype of `made` go, those of the graph's outputs aside."""
    for node in readers(replaced):
        result = node.outputs[0]
        if node.op_type == "Cast" and result.dtype == made.dtype and not result.is_graph_output():
            result.replace_all_uses_with(made)
            graph.remove(node, safe=True)
    if not replaced.uses() and not replaced.is_graph_output():
        return
    name, dtype = replaced.name, replaced.dtype
    assert dtype is not None
    value = made if made.dtype == dtype else _cast(made, dtype, graph)
    answers = replaced.is_graph_output()
    replaced.replace_all_uses_with(value, replace_graph_outputs=True)
    if answers:
        replaced.name, value.name = f"{name}.replaced", name


def _cast(value: ir.Value, dtype: ir.DataType, graph: ir.Graph) -> ir.Value:
    name = f"{value.name}.as.{dtype.name.lower()}"
    output = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))
    node = ir.node("Cast", [value], {"to": dtype.value}, outputs=[output], name=f"{name}.node")
    made = value.producer()
    if made is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(made, node)
    return output


def put_in_place(node: ir.Node, replaced: ir.Node, graph: ir.Graph) -> None:
    """Put a node of one output before the one that it replaces: readers read the new output."""
    graph.insert_before(replaced, node)
    replaced.outputs[0].replace_all_uses_with(node.outputs[0])


def constant_sum(one: ir.Value | None, other: ir.Value | None, graph: ir.Graph) -> ir.Value | None:
    """The sum of two constant vectors, where None is zero; ONNX Runtime folds the Add."""
    if one is None or other is None:
        return other if one is None else one
    name = f"{one.name}+{other.name}"
    total = like(one, name)
    node = ir.node("Add", [one, other], outputs=[total], name=f"{name}.node")
    _put_behind_constants(node, graph)
    return total


def in_dtype(value: ir.Value, dtype: ir.DataType, graph: ir.Graph) -> ir.Value:
    """A constant in a dtype: what was stored, where it was widened from that dtype."""
    if value.dtype == dtype:
        return value
    cast = producer(value, "Cast")
    stored = cast.inputs[0] if cast is not None else value
    assert stored is not None
    if stored.dtype == dtype:
        return stored
    name = f"{stored.name}.as.{dtype.name.lower()}"
    output = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))
    node = ir.node("Cast", [stored], {"to": dtype.value}, outputs=[output], name=f"{name}.node")
    _put_behind_constants(node, graph)
    return output


def _put_behind_constants(node: ir.Node, graph: ir.Graph) -> None:
    """Put a node of constants behind what makes them: at the front, or right behind the last."""
    made = [value.producer() for value in node.inputs if value is not None]
    before = [each for each in made if each is not None]
    if not before:
        graph.insert_before(graph[0], node)
        return
    order = {each: index for index, each in enumerate(graph)}
    graph.insert_after(max(before, key=lambda each: order[each]), node)

"""Questions that fusions ask of a graph: the producer and the readers of a value, and constants."""

from collections.abc import Sequence

import onnx_ir as ir

DOMAIN = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
"""The dtypes of 16 bits."""

_FORMS = ("Cast", "Reshape", "Transpose", "Unsqueeze")


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes a value, where the node is of one of these operators."""
    made = value.producer() if value is not None else None
    return made if made is not None and made.op_type in op_types else None


def has_one_reader(value: ir.Value) -> bool:
    """True where one input of one node reads a value, and the graph does not answer with it."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def only_reader(made: ir.Value | ir.Node | None, *op_types: str) -> ir.Node | None:
    """The one node that reads a value, or a node's first output, where the node is of one of these
    operators."""
    value = made.outputs[0] if isinstance(made, ir.Node) else made
    if value is None or not has_one_reader(value):
        return None
    (reader,) = (use.node for use in value.uses())
    return reader if reader.op_type in op_types else None


def readers(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a value, once for each input."""
    return [use.node for use in value.uses()]


def is_constant(value: ir.Value | None) -> bool:
    """True for an initializer, what is cast, moved or reshaped of one, and a sum of constant
    vectors."""
    if value is None:
        return True
    made = value.producer()
    if made is None:
        return value.is_initializer()
    followed = made.op_type in _FORMS or (made.op_type == "Add" and rank(value) == 1)
    return followed and all(is_constant(source) for source in made.inputs)


def is_vector(value: ir.Value | None) -> bool:
    """True for a constant with one axis of known extent."""
    if value is None or value.shape is None or not is_constant(value):
        return False
    return len(value.shape) == 1 and isinstance(value.shape[0], int)


def number(value: ir.Value | None) -> float | None:
    """The number in a constant of one element; None for anything else."""
    content = value.const_value if value is not None and value.is_initializer() else None
    if content is None or content.size != 1:
        return None
    return float(content.numpy().reshape(()))


def rank(value: ir.Value | None) -> int | None:
    """The number of a value's axes; None where it is not known."""
    return None if value is None or value.shape is None else len(value.shape)


def width(value: ir.Value) -> int | None:
    """The extent of a value's last axis; None where it is not a number."""
    last = value.shape[-1] if value.shape else None
    return last if isinstance(last, int) else None


def extents(value: ir.Value | None) -> tuple[int | str, ...] | None:
    """The extents of a value's axes, those of dynamic axes by their names; None where one of them
    is unknown."""
    if value is None or value.shape is None:
        return None
    found = [each if isinstance(each, int) else each.value for each in value.shape]
    known = tuple(each for each in found if each is not None)
    return known if len(known) == len(found) else None


def same_shape(one: ir.Value | None, other: ir.Value | None) -> bool:
    """True where two values have the same known axes; dynamic axes of one name are the same."""
    return extents(one) is not None and extents(one) == extents(other)


def like(value: ir.Value, name: str) -> ir.Value:
    """A new value of another's shape and dtype."""
    return ir.Value(name=name, shape=value.shape, type=value.type)


def constant(graph: ir.Graph, name: str, numbers: Sequence[int]) -> ir.Value:
    """A new initializer of whole numbers."""
    content = ir.tensor(list(numbers), dtype=ir.DataType.INT64, name=name)
    value = ir.Value(
        name=name,
        shape=ir.Shape([len(numbers)]),
        type=ir.TensorType(ir.DataType.INT64),
        const_value=content,
    )
    graph.register_initializer(value)
    return value


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

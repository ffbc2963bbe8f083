"""Questions that fusions ask of a graph: the producer and the readers of a value, and constants."""

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
    """True for an initializer, for a Cast, Reshape, Transpose or Unsqueeze of one, for a sum of
    constant vectors, and for an absent input."""
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


def is_residual(add: ir.Node) -> bool:
    """True for an Add of two values of one shape, none of them a constant."""
    first, second = add.inputs
    constant = is_constant(first) or is_constant(second)
    return not constant and same_shape(first, second) and not add.outputs[0].is_graph_output()


def shape_part(shape: ir.Node) -> slice:
    """The axes that a Shape tells."""
    start, end = shape.attributes.get("start"), shape.attributes.get("end")
    return slice(start.as_int() if start else None, end.as_int() if end else None)

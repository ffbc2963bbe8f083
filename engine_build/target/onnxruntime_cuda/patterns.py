"""Questions that fusions ask of a graph: the producer and the readers of a value, and constants."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

DOMAIN = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

OURS = "calotype"
"""The domain of our operators, whose kernels are in `runtime/backends/onnxruntime/operators`."""

NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
"""The dtypes of 16 bits."""

_FLOATS = (*NARROW, ir.DataType.FLOAT)

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


def uncast(value: ir.Value | None) -> ir.Value | None:
    """The value before the Casts between floats that lead to `value`."""
    cast = producer(value, "Cast")
    while cast is not None and cast.inputs[0] is not None and cast.inputs[0].dtype in _FLOATS:
        if value is None or value.dtype not in _FLOATS:
            return value
        value = cast.inputs[0]
        cast = producer(value, "Cast")
    return value


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes a value, Casts between floats aside, where the node is of one of these
    operators."""
    return producer(uncast(value), *op_types)


def read_by(value: ir.Value, *op_types: str) -> ir.Node | None:
    """The one node that reads a value, Casts between floats aside, where the node is of one of
    these operators."""
    reader = only_reader(value, "Cast", *op_types)
    while reader is not None and reader.op_type == "Cast":
        if reader.outputs[0].dtype not in _FLOATS:
            return None
        reader = only_reader(reader, "Cast", *op_types)
    return reader


def both_ways(node: ir.Node | None) -> Sequence[tuple[ir.Value | None, ir.Value | None]]:
    """The two inputs of a sum or product, Casts between floats aside, in either order; nothing for
    None."""
    if node is None:
        return ()
    first, second = (uncast(each) for each in node.inputs)
    return ((first, second), (second, first))


def other_input(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The input of a node of two inputs that is not `value`, Casts between floats aside; None where
    both are, or neither."""
    if len(node.inputs) != 2:
        return None
    first, second = (uncast(each) for each in node.inputs)
    if (first is value) == (second is value):
        return None
    return second if first is value else first


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


def depends_on(values: Iterable[ir.Value | None], source: ir.Value) -> bool:
    """True where one of these values is computed from `source`, or is `source`."""
    waiting, seen = list(values), set[ir.Value]()
    while waiting:
        value = waiting.pop()
        if value is source:
            return True
        made = value.producer() if value is not None and value not in seen else None
        if made is not None and value is not None:
            seen.add(value)
            waiting.extend(made.inputs)
    return False


@dataclass(frozen=True, slots=True)
class Cut:
    """A Slice along one axis, of every element from `begin` to before `end`."""

    source: ir.Value
    begin: int
    end: int
    """Beyond the extent, maybe: a Slice ends there at the latest."""
    axis: int
    """Counted from the first."""


def cut_of(slice_node: ir.Node | None) -> Cut | None:
    """The part that a Slice takes; None where a bound is not constant, or counts from the end."""
    if slice_node is None or len(slice_node.inputs) < 4:
        return None
    source = slice_node.inputs[0]
    begin, end, axis = (number(value) for value in slice_node.inputs[1:4])
    step, axes = (number(value) for value in slice_node.inputs[4:5]), rank(source)
    if begin is None or end is None or axis is None or any(each != 1 for each in step):
        return None
    if source is None or not axes or begin < 0 or end <= begin:
        return None
    return Cut(source, int(begin), int(end), int(axis) % axes)


def is_last_axis(axis: int, value: ir.Value | None) -> bool:
    """True where an axis, counted from either end, is a value's last one."""
    axes = rank(value)
    return axes is not None and axis in (-1, axes - 1)


def shape_part(shape: ir.Node) -> slice:
    """The axes that a Shape tells."""
    start, end = shape.attributes.get("start"), shape.attributes.get("end")
    return slice(start.as_int() if start else None, end.as_int() if end else None)

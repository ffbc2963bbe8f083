"""Removes nodes that change no number, which stand between what fusions look for.

These are divisions by 1, pairs of Transposes and of Reshapes, Slices of a whole input of a Concat,
and Expands that repeat nothing. Equal Shapes become one, and are read before Casts.

PyTorch's exporter writes the divisions by one of diffusers' output scales; sines and cosines of a
time are joined, and swapped in nodes of their own. The rules for attention leave heads that are
split off and put back: a Reshape and a Transpose, and the same in return.
"""

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import (
    extents,
    number,
    producer,
    rank,
    same_shape,
    shape_part,
)

_SPREADING = ("Add", "Div", "Max", "Min", "Mul", "Sub", "Where")
"""Operators that spread a single number over the elements of another input."""


def remove_identities(model: ir.Model) -> None:
    """Let readers read the input of each such node, in place; the nodes stay, read by none."""
    shapes: dict[tuple[int | str, ...], ir.Value] = {}
    for node in model.graph:
        output = node.outputs[0]
        source = _same_numbers(node)
        if node.op_type == "Shape":
            widened = producer(node.inputs[0], "Cast")
            if widened is not None:
                node.replace_input_with(0, widened.inputs[0])
            told = _told(node)
            # One node for all values of a shape: what is computed from it is computed once.
            source = shapes.setdefault(told, output) if told is not None else None
        if source is not None and source is not output and not output.is_graph_output():
            output.replace_all_uses_with(source)


def _told(shape: ir.Node) -> tuple[int | str, ...] | None:
    """The extents that a Shape tells; None where they are unknown."""
    found = extents(shape.inputs[0])
    return None if found is None else found[shape_part(shape)]


def _same_numbers(node: ir.Node) -> ir.Value | None:
    """The value that a node's output equals; None where there is none."""
    if node.op_type in ("Div", "Mul"):
        return _unscaled(node)
    if node.op_type == "Transpose":
        return _untransposed(node)
    if node.op_type == "Reshape":
        return _unreshaped(node)
    if node.op_type == "Slice":
        return _sliced_from(node)
    if node.op_type == "Expand":
        return _unexpanded(node)
    return None


def _sliced_from(node: ir.Node) -> ir.Value | None:
    """The value that a Slice takes from a Concat as a whole: diffusers joins the sines and cosines
    of a time, and swaps them in another node."""
    concat = producer(node.inputs[0], "Concat")
    if concat is None or len(node.inputs) < 4:
        return None
    begin, end, axis = (number(value) for value in node.inputs[1:4])
    step = number(node.inputs[4]) if len(node.inputs) > 4 else 1
    if begin is None or end is None or axis is None or step != 1:
        return None
    axes = len(concat.outputs[0].shape or ())
    if not axes or axis % axes != concat.attributes["axis"].as_int() % axes:
        return None
    place = 0
    for index, value in enumerate(concat.inputs):
        extent = value.shape[int(axis)] if value is not None and value.shape else None
        if not isinstance(extent, int):
            return None
        last = index == len(concat.inputs) - 1
        if place == begin and (place + extent == end or (last and place + extent < end)):
            return value
        place += extent
    return None


def _unscaled(node: ir.Node) -> ir.Value | None:
    first, second = node.inputs
    if (
        not _is_stored(second)
        and number(second) == 1
        and rank(first)
        and (rank(second) or 0) <= (rank(first) or 0)
    ):
        return first
    return None


def _is_stored(value: ir.Value | None) -> bool:
    """True for a weight of the package, which keeps its place in the graph whatever its number."""
    return value is not None and isinstance(value.const_value, ir.ExternalTensor)


def _untransposed(node: ir.Node) -> ir.Value | None:
    before = producer(node.inputs[0], "Transpose")
    if before is None:
        return None
    orders = [each.attributes.get("perm") for each in (before, node)]
    if None in orders:
        return None
    first, second = (tuple(order.as_ints()) for order in orders if order is not None)
    back = tuple(first[axis] for axis in second)
    return before.inputs[0] if back == tuple(range(len(back))) else None


def _unreshaped(node: ir.Node) -> ir.Value | None:
    if same_shape(node.inputs[0], node.outputs[0]):
        return node.inputs[0]
    before = producer(node.inputs[0], "Reshape")
    if before is not None and same_shape(before.inputs[0], node.outputs[0]):
        return before.inputs[0]
    return None


def _unexpanded(node: ir.Node) -> ir.Value | None:
    """The input of an Expand that repeats nothing, or a single number that all readers spread by
    themselves."""
    source, output = node.inputs[0], node.outputs[0]
    reshape = producer(source, "Reshape")
    wanted = extents(output)
    given = extents(reshape.inputs[0] if reshape is not None else source)
    if wanted is None:
        return None
    if given is not None and rank(source) == len(wanted) and _elements(given) == _elements(wanted):
        return source
    spread = all(
        use.node.op_type in _SPREADING
        and any(each is not output and same_shape(each, output) for each in use.node.inputs)
        for use in output.uses()
    )
    return source if number(source) is not None and spread else None


def _elements(shape: tuple[int | str, ...]) -> list[str]:
    """The factors of a number of elements, dynamic extents by their names."""
    return sorted(str(extent) for extent in shape if extent != 1)

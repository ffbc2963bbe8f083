"""Removes nodes that change no number, which stand between what fusions look for.

These are divisions by 1, pairs of Transposes and of Reshapes, Slices of a whole input of a Concat,
Concats of all Slices of a value, Casts to 16 bits and back, and Expands that repeat nothing. Equal
Shapes become one, and are read before Casts.

PyTorch's exporter writes the divisions by one of diffusers' output scales; sines and cosines of a
time are joined, and swapped in nodes of their own; a block of FLUX.1 ends with its tokens of text
and picture apart, and the next block joins them. The rules for attention leave heads that are split
off and put back: a Reshape and a Transpose, and the same in return.
"""

from collections.abc import Callable, Mapping

import onnx_ir as ir
import onnx_ir.passes.common as passes

from engine_build.target.onnxruntime_cuda.patterns import (
    NARROW,
    cut_of,
    extents,
    number,
    producer,
    rank,
    same_shape,
    shape_part,
)

_SPREADING = ("Add", "Div", "Max", "Min", "Mul", "Sub", "Where")
"""Operators that spread a single number over the elements of another input."""

_TO_THE_END = 2**62
"""An end of a Slice that no extent comes up to: exporters write the largest integer."""


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


def share_equal_nodes(model: ir.Model) -> None:
    """Compute once what equal nodes compute from the same inputs, in place: blocks of a transformer
    make the same mask each."""
    passes.CommonSubexpressionEliminationPass()(model)


def _told(shape: ir.Node) -> tuple[int | str, ...] | None:
    """The extents that a Shape tells; None where they are unknown."""
    found = extents(shape.inputs[0])
    return None if found is None else found[shape_part(shape)]


def _same_numbers(node: ir.Node) -> ir.Value | None:
    """The value that a node's output equals; None where there is none."""
    rule = _RULES.get(node.op_type)
    return rule(node) if rule is not None else None


def _unwidened(cast: ir.Node) -> ir.Value | None:
    """The value of 16 bits that a Cast to its dtype reads as fp32."""
    widened = producer(cast.inputs[0], "Cast")
    source = widened.inputs[0] if widened is not None else None
    if widened is None or source is None or source.dtype not in NARROW:
        return None
    wide = widened.outputs[0].dtype == ir.DataType.FLOAT
    return source if wide and cast.outputs[0].dtype == source.dtype else None


def _unsliced(concat: ir.Node) -> ir.Value | None:
    """The value whose Slices, all of them in their order, a Concat joins."""
    cuts = [cut_of(producer(value, "Slice")) for value in concat.inputs]
    source = cuts[0].source if cuts and cuts[0] is not None else None
    place, axes = 0, rank(source)
    for cut in cuts:
        if cut is None or cut.source is not source or cut.begin != place or not axes:
            return None
        if cut.axis != concat.attributes["axis"].as_int() % axes:
            return None
        place = cut.end
    return source if place >= _TO_THE_END else None


def _sliced_from(node: ir.Node) -> ir.Value | None:
    """The value that a Slice takes from a Concat as a whole: diffusers joins the sines and cosines
    of a time, and swaps them in another node."""
    concat, cut = producer(node.inputs[0], "Concat"), cut_of(node)
    axes = rank(node.inputs[0])
    if concat is None or cut is None or not axes:
        return None
    if cut.axis != concat.attributes["axis"].as_int() % axes:
        return None
    place = 0
    for index, value in enumerate(concat.inputs):
        extent = value.shape[cut.axis] if value is not None and value.shape else None
        if not isinstance(extent, int):
            return None
        end, last = place + extent, index == len(concat.inputs) - 1
        if place == cut.begin and (end == cut.end or (last and end < cut.end)):
            return value
        place = end
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


_RULES: Mapping[str, Callable[[ir.Node], ir.Value | None]] = {
    "Cast": _unwidened,
    "Concat": _unsliced,
    "Div": _unscaled,
    "Expand": _unexpanded,
    "Mul": _unscaled,
    "Reshape": _unreshaped,
    "Slice": _sliced_from,
    "Transpose": _untransposed,
}

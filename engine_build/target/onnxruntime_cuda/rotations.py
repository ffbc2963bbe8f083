"""Rotations of heads by the places of their tokens, as exporters write them.

There are three ways: with a sign and a swap of neighbours (FLUX.1, Chroma), of real and imaginary
parts (Z-Image), and with a swap of halves (Qwen).
"""

from dataclasses import dataclass

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.patterns import (
    both_ways,
    cut_of,
    is_last_axis,
    made_by,
    number,
    producer,
    rank,
    same_shape,
    uncast,
    width,
)


@dataclass(frozen=True, slots=True)
class Turn:
    """A rotation of heads by tables."""

    source: ir.Value
    """The heads before, `[R, S, heads, D]` or `[R, heads, S, D]`."""
    cosines: ir.Value
    sines: ir.Value
    halves: bool
    output: ir.Value


def turn_of(node: ir.Node) -> Turn | None:
    """The rotation that ends with a node; None where none does."""
    if node.op_type == "Add":
        return _signed_turn(node)
    return _complex_turn(node) if node.op_type == "Reshape" else None


def _signed_turn(add: ir.Node) -> Turn | None:
    """`x * cos + swapped(x) * sin`, the swapped one with a sign."""
    terms = [made_by(each, "Mul") for each in add.inputs]
    if len(terms) != 2 or None in terms:
        return None
    for straight, turned in (terms, terms[::-1]):
        if straight is None or turned is None:
            return None
        for source, cosines in both_ways(straight):
            for swapped, sines in both_ways(turned):
                halves = _swap_of(source, swapped)
                if halves is not None and _are_tables(cosines, sines):
                    assert source is not None
                    assert cosines is not None
                    assert sines is not None
                    return Turn(source, cosines, sines, halves, add.outputs[0])
    return None


def _are_tables(cosines: ir.Value | None, sines: ir.Value | None) -> bool:
    """True for two values of fp32 of one shape, that of heads with an axis of extent 1."""
    wide = all(each is not None and each.dtype == ir.DataType.FLOAT for each in (cosines, sines))
    return wide and same_shape(cosines, sines) and rank(cosines) in (3, 4)


def _swap_of(source: ir.Value | None, swapped: ir.Value | None) -> bool | None:
    """False where `swapped` has neighbours of `source` swapped, the second of them negated; True
    where that is done to halves; None for anything else."""
    reshaped = producer(swapped, "Reshape")
    halves = reshaped is None
    joined = producer(swapped if reshaped is None else reshaped.inputs[0], "Concat")
    if source is None or joined is None or not same_shape(source, swapped):
        return None
    found = _joined_parts(joined, halves=halves)
    negated = producer(found[0], "Neg") if found is not None else None
    if found is None or negated is None:
        return None
    parts = (_part(found[1], halves=halves), _part(uncast(negated.inputs[0]), halves=halves))
    return halves if parts == ((source, 0), (source, 1)) else None


def _joined_parts(concat: ir.Node, *, halves: bool) -> tuple[ir.Value, ir.Value] | None:
    """The two parts that a Concat joins along the last axis: halves, or elements of pairs, each
    with an axis of its own."""
    axis, output = concat.attributes["axis"].as_int(), concat.outputs[0]
    parts = [uncast(each) for each in concat.inputs]
    if not is_last_axis(axis, output):
        return None
    if not halves:
        apart = [producer(each, "Unsqueeze") for each in parts]
        if width(output) != 2:
            return None
        parts = [uncast(each.inputs[0]) if each is not None else None for each in apart]
    if len(parts) != 2:
        return None
    first, second = parts
    return None if first is None or second is None else (first, second)


def _part(value: ir.Value | None, *, halves: bool) -> tuple[ir.Value, int] | None:
    """The value that a Slice takes its first half or its second half from, and 0 or 1 for that; or
    the first or second elements of all pairs."""
    return _half(value) if halves else _of_pairs(value)


def _half(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    cut = cut_of(producer(value, "Slice"))
    source = uncast(cut.source) if cut is not None else None
    extent = width(source) if source is not None else None
    if cut is None or source is None or extent is None or not is_last_axis(cut.axis, source):
        return None
    middle = extent // 2
    if (cut.begin, cut.end) == (0, middle):
        return source, 0
    return (source, 1) if cut.begin == middle and cut.end >= extent else None


def _of_pairs(value: ir.Value | None) -> tuple[ir.Value, int] | None:
    """Pairs are neighbours, on an axis of their own behind a Reshape."""
    squeezed = producer(value, "Squeeze")
    cut = cut_of(made_by(squeezed.inputs[0], "Slice")) if squeezed is not None else None
    paired = made_by(cut.source, "Reshape") if cut is not None else None
    source = uncast(paired.inputs[0]) if paired is not None else None
    if squeezed is None or cut is None or paired is None or source is None:
        return None
    pairs, axes = paired.outputs[0], rank(source)
    axis = number(squeezed.inputs[1]) if len(squeezed.inputs) > 1 else None
    alone = cut.begin in (0, 1) and (cut.begin == 1 or cut.end == 1)
    if width(pairs) != 2 or axes is None or rank(pairs) != axes + 1 or not alone:
        return None
    if not is_last_axis(cut.axis, pairs) or axis not in (-1, axes):
        return None
    return source, cut.begin


def _complex_turn(reshape: ir.Node) -> Turn | None:
    """Pairs joined again: `(even * cos - odd * sin, even * sin + odd * cos)`."""
    joined = made_by(reshape.inputs[0], "Concat")
    parts = _joined_parts(joined, halves=False) if joined is not None else None
    if parts is None:
        return None
    real, imaginary = producer(parts[0], "Sub"), producer(parts[1], "Add")
    if real is None or imaginary is None:
        return None
    products = [_factors(made_by(each, "Mul")) for each in (*real.inputs, *imaginary.inputs)]
    first, second = products[:2]
    if first is None or second is None:
        return None
    (source, even, cosines), (_, _, sines) = first, second
    wanted = [(source, 0, cosines), (source, 1, sines)]
    crossed = {(source, 0, sines), (source, 1, cosines)}
    if even or products[:2] != wanted or set(products[2:]) != crossed:
        return None
    if not _are_tables(cosines, sines) or not same_shape(source, reshape.outputs[0]):
        return None
    return Turn(source, cosines, sines, halves=False, output=reshape.outputs[0])


def _factors(mul: ir.Node | None) -> tuple[ir.Value, int, ir.Value] | None:
    """The heads that a product's pairs are from, which elements of the pairs, and the table."""
    for value, table in both_ways(mul):
        part = _part(value, halves=False)
        if part is not None and table is not None:
            return *part, table
    return None

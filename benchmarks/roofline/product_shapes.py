"""Shapes of outputs of products, convolutions, attention and norms."""

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.roofline.node_inputs import NodeInputs
from benchmarks.roofline.value_facts import Shape


def _product(given: NodeInputs) -> list[Shape]:
    left, right = list(given.shape(0)), list(given.shape(1))
    if given.integer("transA", 0):
        left[-2:] = left[-1], left[-2]
    if given.integer("transB", 0):
        right[-2:] = right[-1], right[-2]
    if left[-1] != (right[-2] if len(right) > 1 else right[0]):
        raise ValueError("the inner extents differ")
    batch = np.broadcast_shapes(tuple(left[:-2]), tuple(right[:-2]))
    return [(*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else []))]


def _convolution(given: NodeInputs) -> list[Shape]:
    picture, kernels = given.shape(0), given.shape(1)
    extents = _windows(given, picture[2:], kernels[2:])
    return [(picture[0], kernels[0], *extents)]


def _convolution_last(given: NodeInputs) -> list[Shape]:
    picture, kernels = given.shape(0), given.shape(1)
    extents = _windows(given, picture[1:-1], kernels[1:-1])
    return [(picture[0], *extents, kernels[0])]


def _windows(given: NodeInputs, source: Shape, window: Shape) -> Shape:
    """Extents of a convolution's output. Raises ValueError for padding that is not explicit."""
    rank = len(source)
    if given.node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        raise ValueError("auto_pad is set; expected explicit pads")
    pads = given.integers("pads", [0] * 2 * rank)
    strides, gaps = given.integers("strides", [1] * rank), given.integers("dilations", [1] * rank)
    return tuple(
        (source[axis] + pads[axis] + pads[axis + rank] - gaps[axis] * (window[axis] - 1) - 1)
        // strides[axis]
        + 1
        for axis in range(rank)
    )


def _attention(given: NodeInputs) -> list[Shape]:
    """`[B, S, C]` of queries `[B, S, C]`, or of packed `[B, S, N, 3, H]`."""
    query = given.shape(0)
    value = given.inputs[2] if len(given.inputs) > 2 else None
    if len(query) == 5:
        return [(*query[:2], query[2] * query[4])]
    if value is None:
        return [query]
    width = value.shape[2] if len(value.shape) == 3 else value.shape[1] * value.shape[3]
    return [(*query[:2], width)]


def _halved(given: NodeInputs) -> list[Shape]:
    source = given.shape(0)
    return [(*source[:-1], source[-1] // 2)]


def _skip_norm(given: NodeInputs) -> list[Shape]:
    """The norm, mean and inverse deviation of each row, and the sum that was normed."""
    source = given.shape(0)
    row = (*source[:-1], 1)
    return [source, row, row, source]


def _layer_norm(given: NodeInputs) -> list[Shape]:
    source = given.shape(0)
    axis = given.integer("axis", -1) % len(source)
    row = (*source[:axis], *[1] * (len(source) - axis))
    return [source, row, row]


def _twice(given: NodeInputs) -> list[Shape]:
    return [given.shape(0), given.shape(0)]


PRODUCT_RULES: Mapping[str, Callable[[NodeInputs], list[Shape]]] = {
    **dict.fromkeys(("FusedMatMul", "Gemm", "MatMul"), _product),
    **dict.fromkeys(("NhwcConv", "NhwcFusedConv"), _convolution_last),
    **dict.fromkeys(("LayerNormalization", "SimplifiedLayerNormalization"), _layer_norm),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_norm),
    "BiasSplitGelu": _halved,
    "Conv": _convolution,
    "MultiHeadAttention": _attention,
    "SkipGroupNorm": _twice,
}
"""Rules of these operators by name."""

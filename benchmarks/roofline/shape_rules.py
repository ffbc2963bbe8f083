"""Shapes of outputs by operator, from the inputs' shapes and small numbers.

Rules follow the operators' documentation:
https://github.com/onnx/onnx/blob/main/docs/Operators.md
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.roofline.node_inputs import NodeInputs
from benchmarks.roofline.own_shapes import OWN_RULES
from benchmarks.roofline.product_shapes import PRODUCT_RULES
from benchmarks.roofline.value_facts import Shape

Rule = Callable[[NodeInputs], list[Shape]]


def _same(given: NodeInputs) -> list[Shape]:
    return [given.shape(0)]


def _broadcast(given: NodeInputs) -> list[Shape]:
    shapes = [each.shape for each in given.inputs if each is not None]
    return [np.broadcast_shapes(*shapes)]


def _constant(given: NodeInputs) -> list[Shape]:
    ((name, attribute),) = given.node.attributes.items()
    if name == "value":
        return [attribute.as_tensor().numpy().shape]
    return [(len(attribute.value),) if name.endswith("s") else ()]


def _shape(given: NodeInputs) -> list[Shape]:
    rank = len(given.shape(0))
    bounds = slice(given.integer("start", 0), given.node.attributes.get_int("end"))
    start, end, _ = bounds.indices(rank)
    return [(max(end - start, 0),)]


def _gather(given: NodeInputs) -> list[Shape]:
    source, places = given.shape(0), given.shape(1)
    axis = given.integer("axis", 0) % len(source)
    return [(*source[:axis], *places, *source[axis + 1 :])]


def _gather_nd(given: NodeInputs) -> list[Shape]:
    source, places = given.shape(0), given.shape(1)
    batch = given.integer("batch_dims", 0)
    return [(*places[:-1], *source[batch + places[-1] :])]


def _second(given: NodeInputs) -> list[Shape]:
    return [given.shape(1)]


def _concat(given: NodeInputs) -> list[Shape]:
    shapes = [each.shape for each in given.inputs if each is not None]
    axis = given.integer("axis", 0) % len(shapes[0])
    whole = list(shapes[0])
    whole[axis] = sum(shape[axis] for shape in shapes)
    return [tuple(whole)]


def _split(given: NodeInputs) -> list[Shape]:
    source, count = given.shape(0), len(given.node.outputs)
    axis = given.integer("axis", 0) % len(source)
    largest = -(-source[axis] // count)
    sizes = given.numbers(1) or [
        *[largest] * (count - 1),
        source[axis] - largest * (count - 1),
    ]
    return [(*source[:axis], size, *source[axis + 1 :]) for size in sizes]


def _slice(given: NodeInputs) -> list[Shape]:
    whole = list(given.shape(0))
    starts, ends = given.needed_numbers(1), given.needed_numbers(2)
    axes = given.numbers(3) or list(range(len(starts)))
    steps = given.numbers(4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # -1 past the front ends a walk backwards, as ONNX has it; Python's slice needs None.
        last = None if step < 0 and end < -whole[axis] else end
        whole[axis] = len(range(*slice(start, last, step).indices(whole[axis])))
    return [tuple(whole)]


def _reshape(given: NodeInputs) -> list[Shape]:
    source, target = given.shape(0), given.needed_numbers(1)
    if not given.integer("allowzero", 0):
        target = [source[place] if extent == 0 else extent for place, extent in enumerate(target)]
    rest = math.prod(extent for extent in target if extent != -1)
    elements = math.prod(source)
    found = tuple(elements // max(rest, 1) if extent == -1 else extent for extent in target)
    if math.prod(found) != elements:
        raise ValueError(f"{elements} elements do not fill {target}")
    return [found]


def _flatten(given: NodeInputs) -> list[Shape]:
    source = given.shape(0)
    axis = given.integer("axis", 1)
    return [(math.prod(source[:axis]), math.prod(source[axis:]))]


def _transpose(given: NodeInputs) -> list[Shape]:
    source = given.shape(0)
    order = given.integers("perm", range(len(source))[::-1])
    return [tuple(source[axis] for axis in order)]


def _depth_to_space(given: NodeInputs) -> list[Shape]:
    batch, channels, height, width = given.shape(0)
    side = given.integer("blocksize", 0)
    return [(batch, channels // side**2, height * side, width * side)]


def _squeeze(given: NodeInputs) -> list[Shape]:
    source = given.shape(0)
    axes = given.numbers(1)
    if axes is None:
        return [tuple(extent for extent in source if extent != 1)]
    gone = {axis % len(source) for axis in axes}
    return [tuple(extent for axis, extent in enumerate(source) if axis not in gone)]


def _unsqueeze(given: NodeInputs) -> list[Shape]:
    source, axes = given.shape(0), given.needed_numbers(1)
    rank = len(source) + len(axes)
    new = {axis % rank for axis in axes}
    rest = iter(source)
    return [tuple(1 if axis in new else next(rest) for axis in range(rank))]


def _expand(given: NodeInputs) -> list[Shape]:
    return [np.broadcast_shapes(given.shape(0), tuple(given.needed_numbers(1)))]


def _tile(given: NodeInputs) -> list[Shape]:
    source, times = given.shape(0), given.needed_numbers(1)
    return [tuple(extent * count for extent, count in zip(source, times, strict=True))]


def _range(given: NodeInputs) -> list[Shape]:
    start, end, step = (float(given.needed_data(index).item()) for index in range(3))
    return [(max(math.ceil((end - start) / step), 0),)]


def _filled(given: NodeInputs) -> list[Shape]:
    return [tuple(given.needed_numbers(0))]


def _resize(given: NodeInputs) -> list[Shape]:
    source = given.shape(0)
    sizes = given.numbers(3)
    if sizes is not None:
        axes = given.integers("axes", range(len(source)))
        whole = list(source)
        for axis, size in zip(axes, sizes, strict=True):
            whole[axis] = size
        return [tuple(whole)]
    scales = given.needed_data(2).reshape(-1)
    return [
        tuple(
            math.floor(extent * float(scale)) for extent, scale in zip(source, scales, strict=True)
        )
    ]


def _pad(given: NodeInputs) -> list[Shape]:
    source, pads = given.shape(0), given.needed_numbers(1)
    axes = given.numbers(3) or list(range(len(source)))
    whole = list(source)
    for place, axis in enumerate(axes):
        whole[axis] += pads[place] + pads[place + len(axes)]
    return [tuple(whole)]


def _reduce(given: NodeInputs) -> list[Shape]:
    source = given.shape(0)
    axes = given.numbers(1)
    if axes is None:
        axes = given.integers("axes", range(len(source)))
    return [_without(source, axes, keeps=bool(given.integer("keepdims", 1)))]


def _arg(given: NodeInputs) -> list[Shape]:
    keeps = bool(given.integer("keepdims", 1))
    return [_without(given.shape(0), [given.integer("axis", 0)], keeps=keeps)]


def _without(source: Shape, axes: Sequence[int], *, keeps: bool) -> Shape:
    gone = {axis % len(source) for axis in axes}
    if keeps:
        return tuple(1 if axis in gone else extent for axis, extent in enumerate(source))
    return tuple(extent for axis, extent in enumerate(source) if axis not in gone)


_UNARY = (
    "Abs", "BiasAdd", "BiasGelu", "Cast", "CastLike", "Ceil", "Clip", "Cos", "CumSum", "Elu", "Erf",
    "Exp", "FastGelu", "Floor", "Gelu", "GroupNorm", "GroupNormalization", "Identity",
    "InstanceNormalization", "IsNaN", "LeakyRelu", "Log", "Neg", "Not", "QuickGelu", "Reciprocal",
    "Relu", "RMSNormalization", "RotaryEmbedding", "Round", "ScatterElements", "ScatterND",
    "Sigmoid", "Sign", "Sin", "Softmax", "Softplus", "Sqrt", "Tanh", "Trilu",
)  # fmt: skip

_BROADCAST = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
    "Mod", "Mul", "Or", "Pow", "Sub", "Where",
)  # fmt: skip

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_UNARY, _same),
    **dict.fromkeys(_BROADCAST, _broadcast),
    **dict.fromkeys(
        ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"), _reduce
    ),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **PRODUCT_RULES,
    **OWN_RULES,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": _second,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Size": lambda _: [()],
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Rules of the operators that are known, by name: those of our graphs, and further ones. Operators
of ONNX, of ONNX Runtime and of our own have no name in common here but those of one shape."""

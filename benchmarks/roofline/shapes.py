"""Concrete shapes of every value of a graph, and the small numbers that shapes are computed from.

Values of our graphs carry symbolic extents with symbols that no input has, so shapes are followed
from the inputs node by node. Weights are never read: a graph without its files will do.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from benchmarks.roofline.node_inputs import NodeInputs
from benchmarks.roofline.shape_rules import RULES
from benchmarks.roofline.value_facts import Shape, ValueFacts
from runtime.errors import BuildError

_LARGEST_DATA = 4096
"""The most elements of a value whose numbers are followed."""

_MULTIPLE = re.compile(r"(\d+)\*(\w+)_\1")
"""An extent that a trace bound to multiples: `4*height_4` is the axis `height`."""

_INTEGERS = frozenset({"Shape", "Size", "ArgMax", "ArgMin"})
_TRUTHS = frozenset(
    {"And", "Equal", "Greater", "GreaterOrEqual", "IsNaN", "Less", "LessOrEqual", "Not", "Or"}
)


def shapes_at(model: ir.Model, extents: Mapping[str, int]) -> dict[str, Shape]:
    """Shapes of a graph's inputs by name, from the extents of its named axes.

    Raises BuildError for an axis that `extents` lacks.
    """
    return {str(value.name): _shape(value, extents) for value in model.graph.inputs}


def known_values(model: ir.Model, inputs: Mapping[str, Shape]) -> dict[ir.Value, ValueFacts]:
    """Facts of every value of a graph at these shapes of its inputs.

    Raises BuildError for an operator without a rule, and for a node whose shape cannot be told.
    """
    known = {
        value: ValueFacts(inputs[str(value.name)], _dtype(value)) for value in model.graph.inputs
    }
    for value in model.graph.initializers.values():
        if value not in known:
            known[value] = ValueFacts(_shape(value, {}), _dtype(value), _stored(value))
    for node in model.graph:
        given = [None if value is None else known[value] for value in node.inputs]
        shapes = _shapes_of(node, given)
        for value, shape in zip(node.outputs, shapes, strict=False):
            known[value] = ValueFacts(shape, _output_dtype(value, given))
        lacking = [value.name for value in node.outputs if value not in known and value.uses()]
        if lacking:
            raise BuildError(f"{node.op_type} ({node.name}): its rule gives no shape for {lacking}")
        if all(known[value].elements <= _LARGEST_DATA for value in node.outputs if value in known):
            _compute(node, given, known, model.opset_imports)
    return known


def _shapes_of(node: ir.Node, given: Sequence[ValueFacts | None]) -> list[Shape]:
    rule = RULES.get(node.op_type)
    if rule is None:
        raise BuildError(
            f"{node.op_type} ({node.name}): no rule gives its output's shape; "
            "add a rule to benchmarks/roofline/shape_rules.py"
        )
    try:
        return [tuple(int(extent) for extent in shape) for shape in rule(NodeInputs(node, given))]
    except (AssertionError, IndexError, ValueError) as error:
        shapes = [None if each is None else each.shape for each in given]
        raise BuildError(
            f"{node.op_type} ({node.name}): no shape follows from inputs of {shapes}: {error}"
        ) from error


def _compute(
    node: ir.Node,
    given: Sequence[ValueFacts | None],
    known: dict[ir.Value, ValueFacts],
    opsets: Mapping[str, int],
) -> None:
    """Add the numbers of a node's outputs, where all numbers that they are computed from are known.

    A shape is known without the numbers of its input.
    """
    numbers = [None if each is None else each.data for each in given]
    if node.op_type in {"Shape", "Size"} and given[0] is not None:
        numbers = [np.broadcast_to(np.zeros((), np.int8), given[0].shape)]
    lacking = any(
        each is not None and data is None for each, data in zip(given, numbers, strict=True)
    )
    if node.domain or lacking:
        return
    for value, data in zip(node.outputs, _evaluated(node, numbers, opsets), strict=False):
        known[value] = ValueFacts(known[value].shape, known[value].dtype, data)


def _evaluated(
    node: ir.Node, numbers: Sequence[np.ndarray | None], opsets: Mapping[str, int]
) -> list[np.ndarray]:
    """Outputs of a node by the reference of ONNX."""
    names = [f"i{index}" if data is not None else "" for index, data in enumerate(numbers)]
    proto = ir.to_proto(node)
    del proto.input[:]
    proto.input.extend(names)
    graph = onnx.helper.make_graph(
        [proto],
        "one",
        [onnx.helper.make_empty_tensor_value_info(name) for name in names if name],
        [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opsets[""])])
    feeds = {name: data for name, data in zip(names, numbers, strict=True) if name}
    # Masks hold the lowest fp32, which is minus infinity in 16 bits.
    with np.errstate(over="ignore"):
        return [np.asarray(each) for each in ReferenceEvaluator(model).run(None, feeds)]


def _shape(value: ir.Value, extents: Mapping[str, int]) -> Shape:
    assert value.shape is not None
    return tuple(
        extent if isinstance(extent, int) else _extent(value, str(extent), extents)
        for extent in value.shape
    )


def _extent(value: ir.Value, axis: str, extents: Mapping[str, int]) -> int:
    multiple = _MULTIPLE.fullmatch(axis)
    name = multiple[2] if multiple else axis
    if name not in extents:
        raise BuildError(f"{value.name}: its axis {axis} has no extent; give one for {name!r}")
    if multiple and extents[name] % int(multiple[1]):
        raise BuildError(f"{name} = {extents[name]}: expected a multiple of {multiple[1]}")
    return extents[name]


def _stored(value: ir.Value) -> np.ndarray | None:
    """Numbers of a small constant that the graph itself holds; weights lie in other files."""
    tensor = value.const_value
    if tensor is None or isinstance(tensor, ir.ExternalTensor) or tensor.size > _LARGEST_DATA:
        return None
    return tensor.numpy()


def _dtype(value: ir.Value) -> ir.DataType:
    if value.dtype is None:
        raise BuildError(f"{value.name}: this value of the graph has no dtype; expected one")
    return value.dtype


def _output_dtype(value: ir.Value, given: Sequence[ValueFacts | None]) -> ir.DataType:
    """Dtype of an output: the graph's, else by the operator."""
    producer = value.producer()
    assert producer is not None
    if value.dtype is not None:
        return value.dtype
    if producer.op_type in _INTEGERS:
        return ir.DataType.INT64
    if producer.op_type in _TRUTHS:
        return ir.DataType.BOOL
    if producer.op_type == "Cast":
        return ir.DataType(producer.attributes.get_int("to"))
    first = given[1] if producer.op_type == "Where" else given[0] if given else None
    if first is None:
        raise BuildError(f"{value.name}: the graph gives no dtype, nor does {producer.op_type}")
    return first.dtype

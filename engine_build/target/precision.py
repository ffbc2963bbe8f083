"""A package's graph, which computes in fp32, as one that computes in 16 bits where that is safe.

TensorRT's networks are strongly typed: the graph itself states the precision of each node. All
model families bear 16 bits in the same places, so one rule, read from the graph alone, serves them:

- Matrix products and convolutions compute in 16 bits, and so does each node with such a product
  somewhere before and somewhere behind the node. Noise schedules, a row's arithmetic and guidance
  lie outside, and stay in fp32.
- Norms, sums and means over rows, powers, roots, exponentials, logarithms, sines and cosines stay
  in fp32, and so does a node whose inputs, constants aside, are all in fp32. A product, quotient or
  difference stays in fp32 with a single such input: the normalising of a row, or a rotation by a
  table. A sum does not: residual streams are of 16 bits.
- Softmax is in 16 bits, since only so is attention one kernel, which sums in fp32 inside. Its
  scores do not overflow where PyTorch's graph scales query and key before their product.
"""

from collections.abc import Callable, Collection, Iterable

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from runtime.errors import BuildError
from runtime.package.manifest import Precision

_TYPES: dict[Precision, ir.DataType] = {
    "fp16": ir.DataType.FLOAT16,
    "bf16": ir.DataType.BFLOAT16,
}

_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
_SENSITIVE = frozenset(
    {
        "Cos",
        "Exp",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "Log",
        "Pow",
        "RMSNormalization",
        "Reciprocal",
        "ReduceL2",
        "ReduceMean",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Sin",
        "Sqrt",
    }
)
_SCALING = frozenset({"Mul", "Div", "Sub"})

# Inputs by position that an operator takes in fp32 whatever the rest is: Resize's roi and scales.
_ALWAYS_WIDE = {"Resize": frozenset({1, 2})}

_SUBGRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})


def typed_graph(model: ir.Model, precision: Precision, parameters: Collection[str]) -> ir.Model:
    """Rewrite the graph in place, with Casts where precisions meet; returns it.

    Its inputs and outputs stay as they are, and so do the initializers that are `parameters`.
    Raises BuildError for a graph with branches or loops.
    """
    if precision == "fp32":
        return model
    passes.ShapeInferencePass()(model)
    nodes = list(model.graph)
    if any(each.type in _SUBGRAPHS for node in nodes for each in node.attributes.values()):
        raise BuildError("the graph has branches or loops, which no family's has")
    narrow = narrow_nodes(nodes)
    types = _Types(model.graph, _TYPES[precision], parameters)
    for node in nodes:
        if node in narrow:
            types.narrow(node)
        else:
            types.widen_inputs(node)
    types.widen_outputs()
    return model


def narrow_nodes(nodes: Collection[ir.Node]) -> frozenset[ir.Node]:
    """The nodes that may compute in 16 bits; `nodes` is in topological order."""
    after = _with_product(nodes, _producers)
    before = _with_product(reversed(list(nodes)), _consumers)
    narrow: set[ir.Node] = set()
    for node in nodes:
        inside = node in after and node in before and _activations(node)
        if inside and (node.op_type in _PRODUCTS or not _stays_wide(node, narrow)):
            narrow.add(node)
    return frozenset(narrow)


def narrow_values(nodes: Collection[ir.Node]) -> list[ir.Value]:
    """The values that 16 bits would have to hold: fp32 values that narrow nodes make, or read and
    that are no constants; in the order in which they are made. `nodes` is in topological order.
    """
    narrow = narrow_nodes(nodes)
    read = {value: None for node in nodes if node in narrow for value in _activations(node)}
    made = [value for node in nodes for value in node.outputs if node in narrow or value in read]
    given = [value for value in read if value.producer() is None]
    return [value for value in (*given, *made) if value.dtype == ir.DataType.FLOAT]


def _with_product(
    nodes: Iterable[ir.Node], neighbours: Callable[[ir.Node], Iterable[ir.Node]]
) -> set[ir.Node]:
    """The nodes that are products, or that `neighbours` leads to one, node by node.

    `nodes` has the neighbours of each node before the node.
    """
    found: set[ir.Node] = set()
    for node in nodes:
        if node.op_type in _PRODUCTS or any(other in found for other in neighbours(node)):
            found.add(node)
    return found


def _producers(node: ir.Node) -> list[ir.Node]:
    producers = [value.producer() for value in node.inputs if value and _is_float(value)]
    return [producer for producer in producers if producer is not None]


def _consumers(node: ir.Node) -> list[ir.Node]:
    return [use.node for value in node.outputs if _is_float(value) for use in value.uses()]


def _stays_wide(node: ir.Node, narrow: Collection[ir.Node]) -> bool:
    if node.op_type in _SENSITIVE:
        return True
    widths = [value.producer() not in narrow for value in _activations(node)]
    return any(widths) if node.op_type in _SCALING else all(widths)


def _activations(node: ir.Node) -> list[ir.Value]:
    """The inputs that are floats and no constants."""
    return [
        value
        for value in node.inputs
        if value is not None and _is_float(value) and not _is_constant(value)
    ]


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _is_constant(value: ir.Value) -> bool:
    """An initializer, or what Casts and Transposes make of one."""
    producer = value.producer()
    if producer is None:
        return value.is_initializer()
    source = producer.inputs[0] if producer.op_type in ("Cast", "Transpose") else None
    return source is not None and _is_constant(source)


class _Types:
    """Gives the values of one graph their types, each Cast made once."""

    def __init__(self, graph: ir.Graph, dtype: ir.DataType, parameters: Collection[str]) -> None:
        self._graph = graph
        self._dtype = dtype
        self._parameters = frozenset(parameters)
        self._narrowed: dict[ir.Value, ir.Value] = {}
        self._widened: dict[ir.Value, ir.Value] = {}

    def narrow(self, node: ir.Node) -> None:
        """Let a node compute in 16 bits."""
        kept = _ALWAYS_WIDE.get(node.op_type, frozenset())
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == ir.DataType.FLOAT and index not in kept:
                node.replace_input_with(index, self._as_narrow(value))
        for output in node.outputs:
            if output.dtype == ir.DataType.FLOAT:
                output.dtype = self._dtype
        if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", self._dtype.value)

    def widen_inputs(self, node: ir.Node) -> None:
        """Let a node compute in fp32, on whatever its inputs have become."""
        if node.op_type == "Cast":
            return
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == self._dtype and not _is_constant(value):
                node.replace_input_with(index, self._as_wide(value))

    def widen_outputs(self) -> None:
        """Let the graph answer in the types, and under the names, that it had."""
        for index, value in enumerate(self._graph.outputs):
            if value.dtype == self._dtype:
                name, value.name = value.name, f"{value.name}.narrow"
                wide = self._as_wide(value)
                wide.name = name
                self._graph.outputs[index] = wide

    def _as_narrow(self, value: ir.Value) -> ir.Value:
        if value not in self._narrowed:
            self._narrowed[value] = self._make_narrow(value)
        return self._narrowed[value]

    def _make_narrow(self, value: ir.Value) -> ir.Value:
        producer = value.producer()
        if producer is not None and producer.op_type == "Cast" and _is_constant(value):
            # A stored weight that was widened: narrow what is stored, not what became of it.
            stored = producer.inputs[0]
            assert stored is not None
            return stored if stored.dtype == self._dtype else self._cast(stored, self._dtype)
        if producer is None and value.is_initializer() and value.name not in self._parameters:
            return self._saturated(value)
        return self._cast(value, self._dtype)

    def _saturated(self, value: ir.Value) -> ir.Value:
        """A constant within the range of 16 bits: masks hold the largest of fp32, and an infinity
        in their place makes NaNs of differences and of rows that see nothing."""
        assert value.const_value is not None
        largest = float(self._dtype.max)
        numbers = np.clip(value.const_value.numpy(), -largest, largest)
        name = f"{value.name}.{self._dtype.name.lower()}"
        tensor = ir.Tensor(numbers.astype(self._dtype.numpy()), dtype=self._dtype, name=name)
        made = ir.Value(
            name=name, shape=value.shape, type=ir.TensorType(self._dtype), const_value=tensor
        )
        self._graph.register_initializer(made)
        return made

    def _as_wide(self, value: ir.Value) -> ir.Value:
        if value not in self._widened:
            self._widened[value] = self._cast(value, ir.DataType.FLOAT)
        return self._widened[value]

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        name = f"{value.name}.{dtype.name.lower()}"
        output = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))
        cast = ir.node("Cast", [value], {"to": dtype.value}, outputs=[output], name=f"{name}.cast")
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], cast)
        else:
            self._graph.insert_after(producer, cast)
        return output

"""The stream of a decoder, scaled by a power of two: the same picture from smaller numbers.

The residual stream of SDXL's VAE leaves the range of fp16, and only norms read the stream. A group
norm gives the same numbers for a stream of `2**-k` times the values if its epsilon is `4**-k` times
as large. So the stream is made smaller where products feed it, by their weights and biases, and
nothing behind a norm changes. A product by a power of two loses no digit, unless it is subnormal in
fp16: weights below `2**(k - 14)`, which keep an absolute error of at most `2**(k - 25)`.

A weight keeps its name, shape and dtype: a Mul stands behind its initializer, computes in fp32 and
comes before the Cast to 16 bits. ONNX Runtime folds both when it opens the graph.
"""

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

_NORM = "InstanceNormalization"
_EPSILON = 1e-5
"""The epsilon of an InstanceNormalization that states none."""

_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
_ALIKE = frozenset({"Add", "Reshape", "Transpose"})
"""Operators that scale as their inputs do, next to Mul, Div and Resize."""


def scale_stream(model: ir.Model, exponent: int) -> None:
    """Multiply the stream of an fp32 graph by `2**-exponent`, in place; its outputs stay the same.

    0 changes nothing.
    """
    if exponent:
        _Scaling(model.graph, exponent).run()


def stream(graph: ir.Graph) -> frozenset[ir.Value]:
    """The values that `scale_stream` makes smaller: made by products of constant weights, or of
    such values alone, and read on every path, through other values of the stream, by norms alone.
    """
    constants = _constants(graph)
    nodes = [node for node in graph if _is_linear(node, constants)]
    found = {node.outputs[0] for node in nodes}
    # The largest set in which all of this holds at once: a value that leaves may take others along.
    while True:
        left = {
            node.outputs[0]
            for node in nodes
            if node.outputs[0] in found
            and not (_is_fed(node, found, constants) and _is_normed(node.outputs[0], found))
        }
        if not left:
            return frozenset(found)
        found -= left


def _constants(graph: ir.Graph) -> frozenset[ir.Value]:
    """The values that do not depend on the graph's inputs."""
    constants = set(graph.initializers.values()) - set(graph.inputs)
    for node in graph:
        if all(value is None or value in constants for value in node.inputs):
            constants.update(node.outputs)
    return frozenset(constants)


def _is_linear(node: ir.Node, constants: frozenset[ir.Value]) -> bool:
    """True for a node whose output scales with its inputs, or with those that are no constants."""
    varying = _varying(node, constants)
    if not varying or node.domain or node.outputs[0].dtype != ir.DataType.FLOAT:
        return False
    first = node.inputs[0] in varying
    if node.op_type == "MatMul":
        return len(varying) == 1
    if node.op_type in _PRODUCTS or node.op_type == "Div":
        return len(varying) == 1 and first
    if node.op_type == "Mul":
        return len(varying) == 1
    if node.op_type == "Resize":
        mode = node.attributes.get("mode")
        return first and (mode is None or mode.as_string() == "nearest")
    return node.op_type in _ALIKE


def _varying(node: ir.Node, constants: frozenset[ir.Value]) -> list[ir.Value]:
    """The inputs whose numbers change from call to call; shapes are none of them."""
    return [
        value
        for value in node.inputs
        if value is not None and value not in constants and value.dtype != ir.DataType.INT64
    ]


def _is_fed(node: ir.Node, found: set[ir.Value], constants: frozenset[ir.Value]) -> bool:
    """True where the output can be of the stream by its inputs."""
    return node.op_type in _PRODUCTS or all(each in found for each in _varying(node, constants))


def _is_normed(value: ir.Value, found: set[ir.Value]) -> bool:
    """True where norms, shapes and the stream itself are all that reads a value."""
    return not value.is_graph_output() and all(
        use.node.op_type == "Shape"
        or (use.node.op_type == _NORM and use.idx == 0)
        or use.node.outputs[0] in found
        for use in value.uses()
    )


class _Scaling:
    """Scales one graph. `_scaled` has what became of each constant."""

    def __init__(self, graph: ir.Graph, exponent: int) -> None:
        self._graph = graph
        self._exponent = exponent
        self._constants = _constants(graph)
        self._stream = stream(graph)
        self._scaled: dict[ir.Value, ir.Value] = {}
        name = f"stream.scale.{exponent}"
        factor = ir.tensor(np.array(2.0**-exponent, np.float32), name=name)
        self._factor = ir.Value(
            name=name, shape=ir.Shape([]), type=ir.TensorType(factor.dtype), const_value=factor
        )

    def run(self) -> None:
        """Scale what feeds the stream, and the epsilons of the norms that read the stream."""
        self._graph.register_initializer(self._factor)
        for node in list(self._graph):
            if node.outputs[0] in self._stream:
                self._scale(node, self._added(node))
            elif node.op_type == _NORM and node.inputs[0] in self._stream:
                self._scale_epsilon(node)

    def _added(self, node: ir.Node) -> Iterable[int]:
        """The inputs of a node that are to be scaled, so that its output is."""
        constant = [index for index, value in enumerate(node.inputs) if value in self._constants]
        if node.op_type == "Add":
            return constant
        if node.op_type not in _PRODUCTS:
            return ()
        # The weight of a product is one of the first two inputs, and its bias the third.
        is_scaled = any(value in self._stream for value in node.inputs)
        return [index for index in constant if index == 2 or not is_scaled]

    def _scale(self, node: ir.Node, indices: Iterable[int]) -> None:
        for index in indices:
            value = node.inputs[index]
            assert value is not None
            if value not in self._scaled:
                self._scaled[value] = self._product(value, node)
            node.replace_input_with(index, self._scaled[value])

    def _product(self, value: ir.Value, before: ir.Node) -> ir.Value:
        name = f"{value.name}.scaled"
        wide = ir.TensorType(ir.DataType.FLOAT)
        output = ir.Value(name=name, shape=value.shape, type=wide)
        node = ir.node("Mul", [value, self._factor], outputs=[output], name=f"{name}.mul")
        self._graph.insert_before(before, node)
        return output

    def _scale_epsilon(self, norm: ir.Node) -> None:
        stated = norm.attributes.get("epsilon")
        epsilon = _EPSILON if stated is None else stated.as_float()
        lowered = epsilon * 4.0**-self._exponent
        norm.attributes["epsilon"] = ir.AttrFloat32("epsilon", lowered)

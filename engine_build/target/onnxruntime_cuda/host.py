"""Numbers that ONNX Runtime computes on the host, made on the device where the device reads them.

ONNX Runtime computes with shapes on the host, and copies each number that a kernel reads from the
device's memory. A session refuses to capture a graph with a single such copy as a CUDA graph. The
kernel of Range reads its inputs on the host and writes its output on the device, so a Range of one
number brings that number to the device without a copy. At one shape of the inputs these numbers are
constants, and may be captured.

The values on the host are found here as ONNX Runtime 1.31 finds them.
https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/framework/fallback_cpu_capability.cc
"""

from collections.abc import Iterator

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.kernels import MADE_ON_HOST, READ_ON_HOST, has_kernel
from engine_build.target.onnxruntime_cuda.patterns import NARROW
from engine_build.target.onnxruntime_cuda.values import constant

_SMALL = 100
"""The most elements of a constant that lets the node that reads it fall to the host."""

_INTEGERS = (ir.DataType.INT32, ir.DataType.INT64)


def put_numbers_on_device(model: ir.Model) -> None:
    """Let nodes on the device compute the single numbers that the host computes and kernels read in
    the device's memory, in place.

    Values of several numbers are left on the host, and are copied.
    """
    graph = model.graph
    _find_maxima_by_kernels(graph)
    # A node that reads inputs of the graph falls to the host only beside a number on the host, and
    # the twins made here replace such numbers.
    placement = Placement(graph, inputs_follow=False)
    numbers = _Numbers(graph, placement)
    for node in list(graph):
        for index, value in placement.copied_to_device(node):
            if numbers.can_be_made(value):
                node.replace_input_with(index, numbers.on_device(value))


class Placement:
    """The nodes and values of a graph that ONNX Runtime computes on the host."""

    def __init__(self, graph: ir.Graph, *, inputs_follow: bool = True) -> None:
        """`inputs_follow`: a node that reads a number on the host, and inputs of the graph beside
        that, falls to the host, as ONNX Runtime has it; else such a node stays on the device."""
        self._inputs_follow = inputs_follow
        self.on_host: set[ir.Value] = set()
        for node in graph:
            if self._falls_to_host(node):
                self.on_host.update(node.outputs)

    def runs_on_host(self, node: ir.Node) -> bool:
        """True where a node is computed on the host."""
        return node.outputs[0] in self.on_host

    def has_host_alone(self, node: ir.Node) -> bool:
        """True where all inputs of a node are on the host."""
        return all(self._is_there(value) for value in node.inputs if value is not None)

    def copied_to_device(self, node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
        """Inputs of a node on the device that the host has, by position."""
        if self.runs_on_host(node):
            return
        wanted = READ_ON_HOST.get(node.op_type, ())
        for index, value in enumerate(node.inputs):
            if value is not None and value in self.on_host and index not in wanted:
                yield index, value

    def copied_to_host(self, node: ir.Node) -> Iterator[ir.Value]:
        """Inputs that a node reads on the host and the device has, the graph's own among them."""
        if node.op_type in MADE_ON_HOST:
            return
        wanted = READ_ON_HOST.get(node.op_type, ())
        for index, value in enumerate(node.inputs):
            read_there = self.runs_on_host(node) or index in wanted
            if value is not None and read_there and not self._is_there(value):
                yield value

    def _is_there(self, value: ir.Value) -> bool:
        return value in self.on_host or _is_constant(value)

    def _falls_to_host(self, node: ir.Node) -> bool:
        if node.op_type in MADE_ON_HOST or not has_kernel(node):
            return True
        inputs = [value for value in node.inputs if value is not None]
        wanted = READ_ON_HOST.get(node.op_type, ())
        if any(
            value in self.on_host and index in wanted for index, value in enumerate(node.inputs)
        ):
            return False  # Its kernel takes it from there.
        return any(value in self.on_host for value in inputs) and all(
            value.dtype not in NARROW and (value in self.on_host or self._follows(value))
            for value in inputs
        )

    def _follows(self, value: ir.Value) -> bool:
        return _is_small_constant(value) or (self._inputs_follow and value.is_graph_input())


class _Numbers:
    """Values on the device that equal values on the host, their twins."""

    def __init__(self, graph: ir.Graph, placement: Placement) -> None:
        self._graph = graph
        self._host = placement.on_host
        self._twins: dict[ir.Value, ir.Value] = {}

    def can_be_made(self, value: ir.Value) -> bool:
        """True where a value on the host is computed from single whole numbers alone."""
        if value.dtype in _INTEGERS:
            return value.shape is not None and value.shape.rank() == 0
        producer = value.producer()
        assert producer is not None
        return all(
            source is None or source not in self._host or self.can_be_made(source)
            for source in producer.inputs
        )

    def on_device(self, value: ir.Value) -> ir.Value:
        """The value's twin, computed by nodes on the device."""
        if value not in self._twins:
            if value.dtype in _INTEGERS:
                twin, made = self._ranged(value)
            else:
                twin, made = self._computed(value)
            producer = value.producer()
            assert producer is not None
            self._graph.insert_after(producer, made)
            self._twins[value] = twin
        return self._twins[value]

    def _ranged(self, value: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
        """The Range from a number to the next number: the number itself, on the device."""
        number, name = value.type, f"{value.name}.device"
        assert value.dtype is not None
        one = constant(self._graph, f"{name}.one", 1, value.dtype)
        axis = constant(self._graph, f"{name}.axis", [0])
        end = ir.Value(name=f"{name}.end", shape=ir.Shape([]), type=number)
        row = ir.Value(name=f"{name}.row", shape=ir.Shape([1]), type=number)
        twin = ir.Value(name=name, shape=ir.Shape([]), type=number)
        return twin, [
            ir.node("Add", [value, one], outputs=[end], name=f"{name}.add"),
            ir.node("Range", [value, end, one], outputs=[row], name=f"{name}.range"),
            ir.node("Squeeze", [row, axis], outputs=[twin], name=f"{name}.squeeze"),
        ]

    def _computed(self, value: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
        """The node that computes a host value once more, from numbers on the device."""
        producer = value.producer()
        assert producer is not None
        inputs = [
            self.on_device(source) if source in self._host else source
            for source in producer.inputs
            if source is not None
        ]
        twin = ir.Value(name=f"{value.name}.device", shape=value.shape, type=value.type)
        name = f"{twin.name}.node"
        made = ir.node(producer.op_type, inputs, producer.attributes, outputs=[twin], name=name)
        return twin, [made]


def _find_maxima_by_kernels(graph: ir.Graph) -> None:
    """Replace each ArgMax of integers over the last axis by the smallest index at which the maximum
    lies: CUDA has kernels of ArgMax for floats alone.
    """
    for node in list(graph):
        source = node.inputs[0] if node.inputs else None
        if node.op_type != "ArgMax" or source is None or source.dtype not in _INTEGERS:
            continue
        rank = len(source.shape) if source.shape is not None else 0
        extent = source.shape[-1] if source.shape is not None and rank else None
        if not isinstance(extent, int) or not _is_of_last_axis(node, rank):
            continue
        _replace_argmax(node, source, extent, graph)


def _replace_argmax(node: ir.Node, source: ir.Value, extent: int, graph: ir.Graph) -> None:
    output = node.outputs[0]
    name = str(output.name)
    axis = constant(graph, f"{name}.axis", [-1])
    places = constant(graph, f"{name}.places", range(extent))
    behind = constant(graph, f"{name}.behind", [extent])
    largest = ir.Value(name=f"{name}.largest", type=source.type)
    is_there = ir.Value(
        name=f"{name}.is_there", shape=source.shape, type=ir.TensorType(ir.DataType.BOOL)
    )
    found = ir.Value(name=f"{name}.found", shape=source.shape, type=output.type)
    first = ir.Value(name=f"{name}.first", shape=output.shape, type=output.type)
    keeps = node.attributes.get("keepdims", ir.AttrInt64("keepdims", 1))
    made = [
        ir.node("ReduceMax", [source, axis], {"keepdims": 1}, outputs=[largest]),
        ir.node("Equal", [source, largest], outputs=[is_there]),
        ir.node("Where", [is_there, places, behind], outputs=[found]),
        ir.node("ReduceMin", [found, axis], {"keepdims": keeps.as_int()}, outputs=[first]),
    ]
    for each in made:
        each.name = f"{each.outputs[0].name}.node"
    graph.insert_before(node, made)
    output.replace_all_uses_with(first)


def _is_of_last_axis(node: ir.Node, rank: int) -> bool:
    axis, last = node.attributes.get("axis"), node.attributes.get("select_last_index")
    of_last = axis is not None and axis.as_int() in {-1, rank - 1}
    return of_last and (last is None or not last.as_int()) and not node.outputs[0].is_graph_output()


def _is_constant(value: ir.Value) -> bool:
    return value.is_initializer() and not value.is_graph_input()


def _is_small_constant(value: ir.Value) -> bool:
    constant = value.const_value
    return constant is not None and constant.size <= _SMALL

"""Numbers that ONNX Runtime computes on the host, made on the device where the device reads them.

ONNX Runtime computes with shapes on the host, and copies what a kernel wants in the device's
memory. A single such copy, and a session refuses to have the graph captured as a CUDA graph. Range
takes its numbers from the host and leaves them on the device, so that the range of one number is
that copy and yet none. At one shape of the inputs these numbers are constants, and may be captured.

What lies on the host is decided here as ONNX Runtime 1.31 does.
https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/framework/fallback_cpu_capability.cc
"""

from collections.abc import Iterator

import onnx_ir as ir

_ANY = tuple(range(8))

_READ_ON_HOST = {
    "ConstantOfShape": _ANY,
    "CumSum": (1,),
    "Expand": (1,),
    "Pad": (1, 3),
    "Range": _ANY,
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
}
"""Inputs that CUDA's kernels want in the host's memory, by operator."""

_MADE_ON_HOST = ("Shape", "Size")
_WITHOUT_KERNEL = ("ReduceProd",)
"""CUDA has it of floats alone, and in our graphs it multiplies extents."""

_SMALL = 100
"""Elements of a constant that is no reason to compute on the device."""

_INTEGERS = (ir.DataType.INT32, ir.DataType.INT64)
_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def put_numbers_on_device(model: ir.Model) -> tuple[str, ...]:
    """Let kernels read no number from the host where they want the device's memory, in place.

    Returns the names of what is still copied: with any, there will be no CUDA graph.
    """
    graph = model.graph
    _find_maxima_by_kernels(graph)
    numbers = _Numbers(graph)
    left = []
    for node in list(graph):
        for index, value in numbers.copied(node):
            if numbers.can_be_made(value):
                node.replace_input_with(index, numbers.on_device(value))
            else:
                left.append(str(value.name))
    return tuple(dict.fromkeys(left))


class _Numbers:
    """What of a graph is on the host, and its twins on the device."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._host: set[ir.Value] = set()
        self._twins: dict[ir.Value, ir.Value] = {}
        for node in graph:
            if self._runs_on_host(node):
                self._host.update(node.outputs)

    def copied(self, node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
        """Inputs of a node on the device that would be copied there."""
        if node.outputs[0] in self._host:
            return
        wanted = _READ_ON_HOST.get(node.op_type, ())
        for index, value in enumerate(node.inputs):
            if value is not None and value in self._host and index not in wanted:
                yield index, value

    def can_be_made(self, value: ir.Value) -> bool:
        """Whether what is on the host comes down to single whole numbers."""
        if value.dtype in _INTEGERS:
            return value.shape is not None and value.shape.rank() == 0
        producer = value.producer()
        assert producer is not None
        return all(
            source is None or source not in self._host or self.can_be_made(source)
            for source in producer.inputs
        )

    def on_device(self, value: ir.Value) -> ir.Value:
        """The value, as nodes on the device make it."""
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

    def _runs_on_host(self, node: ir.Node) -> bool:
        if node.op_type in _MADE_ON_HOST:
            return True
        inputs = [value for value in node.inputs if value is not None]
        on_host = [value in self._host for value in inputs]
        if node.op_type in _WITHOUT_KERNEL:
            return any(on_host)
        wanted = _READ_ON_HOST.get(node.op_type, ())
        if any(value in self._host and index in wanted for index, value in enumerate(node.inputs)):
            return False  # Its kernel takes it from there.
        return any(on_host) and all(
            (found or _is_small_constant(value)) and value.dtype not in _NARROW
            for value, found in zip(inputs, on_host, strict=True)
        )

    def _ranged(self, value: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
        """The range from a number to the one behind it."""
        number, name = value.type, f"{value.name}.device"
        assert value.dtype is not None
        one = _constant(self._graph, f"{name}.one", 1, value.dtype)
        axis = _constant(self._graph, f"{name}.axis", [0], ir.DataType.INT64)
        end = ir.Value(name=f"{name}.end", shape=ir.Shape([]), type=number)
        row = ir.Value(name=f"{name}.row", shape=ir.Shape([1]), type=number)
        twin = ir.Value(name=name, shape=ir.Shape([]), type=number)
        return twin, [
            ir.node("Add", [value, one], outputs=[end], name=f"{name}.add"),
            ir.node("Range", [value, end, one], outputs=[row], name=f"{name}.range"),
            ir.node("Squeeze", [row, axis], outputs=[twin], name=f"{name}.squeeze"),
        ]

    def _computed(self, value: ir.Value) -> tuple[ir.Value, list[ir.Node]]:
        """What makes it on the host once more, of numbers on the device."""
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
    """Find the first place of the largest whole number in a row, which CUDA's ArgMax, of floats
    alone, does not: as the smallest of the places where it is.
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
    axis = _constant(graph, f"{name}.axis", [-1], ir.DataType.INT64)
    places = _constant(graph, f"{name}.places", list(range(extent)), ir.DataType.INT64)
    behind = _constant(graph, f"{name}.behind", [extent], ir.DataType.INT64)
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


def _is_small_constant(value: ir.Value) -> bool:
    constant = value.const_value
    return constant is not None and constant.size <= _SMALL


def _constant(graph: ir.Graph, name: str, numbers: int | list[int], dtype: ir.DataType) -> ir.Value:
    content = ir.tensor(numbers, dtype=dtype, name=name)
    value = ir.Value(name=name, shape=ir.Shape(content.numpy().shape), type=ir.TensorType(dtype))
    value.const_value = content
    graph.register_initializer(value)
    return value

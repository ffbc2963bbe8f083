"""`GatedActivation`: the middle of a feed-forward, between its first products and its last one.

    product -> Add bias -> activation -> Mul with another product
                                     `-> Concat behind an attention's output

One kernel of ours does all of this. Activations are SiLU, and GELU in its form with a hyperbolic
tangent, as one operator or written out as T5 has it. FLUX.1's single blocks have the Concat.
"""

from dataclasses import dataclass

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.biases import biased_product
from engine_build.target.onnxruntime_cuda.operators import GATED_ACTIVATION, our_operator
from engine_build.target.onnxruntime_cuda.patterns import (
    NARROW,
    both_ways,
    is_constant,
    made_by,
    number,
    only_reader,
    producer,
    rank,
    read_by,
    readers,
    same_shape,
    uncast,
    width,
)
from engine_build.target.onnxruntime_cuda.values import as_dtype, put_value

SILU, GELU_TANH = "silu", "gelu_tanh"


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation as a graph writes it."""

    kind: str
    source: ir.Value
    """The function's argument."""
    output: ir.Value


def fuse_gated_activations(model: ir.Model) -> None:
    """Fuse activations of products with all that stands beside them, in place."""
    graph = model.graph
    for node in list(graph):
        found = activation_of(node)
        if found is not None:
            _fuse(found, graph)


def activation_of(node: ir.Node) -> Activation | None:
    """The activation that ends with a node; None where none does."""
    if node.op_type == "Gelu":
        return _gelu(node)
    if node.op_type != "Mul":
        return None
    return _silu(node) or _written_out_gelu(node)


def _gelu(node: ir.Node) -> Activation | None:
    kind, source = node.attributes.get("approximate"), uncast(node.inputs[0])
    if kind is None or kind.as_string() != "tanh" or source is None:
        return None
    return Activation(GELU_TANH, source, node.outputs[0])


def _silu(mul: ir.Node) -> Activation | None:
    """`x * sigmoid(x)`."""
    for source, gate in both_ways(mul):
        sigmoid = producer(gate, "Sigmoid")
        if source is not None and sigmoid is not None and uncast(sigmoid.inputs[0]) is source:
            return Activation(SILU, source, mul.outputs[0])
    return None


def _written_out_gelu(mul: ir.Node) -> Activation | None:
    """`0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, as transformers writes it."""
    for half, rest in both_ways(mul):
        source = _scaled(half, 0.5)
        added = producer(rest, "Add")
        tanh = _beside(added, 1.0, "Tanh")
        inner = _scaled(uncast(tanh.inputs[0]), 0.7978845608) if tanh is not None else None
        summed = producer(inner, "Add")
        if source is None or summed is None:
            continue
        for one, cubed in both_ways(summed):
            power = made_by(_scaled(cubed, 0.044715), "Pow")
            if one is not source or power is None or number(uncast(power.inputs[1])) != 3:
                continue
            # Constants may have more axes than what they scale.
            if uncast(power.inputs[0]) is source and rank(source) == rank(mul.outputs[0]):
                return Activation(GELU_TANH, source, mul.outputs[0])
    return None


_ROUNDING = {ir.DataType.FLOAT: 2**-20, ir.DataType.FLOAT16: 2**-11, ir.DataType.BFLOAT16: 2**-8}
"""Relative, by the dtype that a constant is stored in."""


def _scaled(value: ir.Value | None, factor: float) -> ir.Value | None:
    """The value that a Mul multiplies by this number."""
    mul = producer(value, "Mul")
    for one, other in both_ways(mul):
        found = number(other)
        if found is None or other is None or other.dtype not in _ROUNDING:
            continue
        if abs(found - factor) <= _ROUNDING[other.dtype] * factor:
            return one
    return None


def _beside(add: ir.Node | None, summand: float, op_type: str) -> ir.Node | None:
    """The node of an operator that an Add adds a number to."""
    for one, other in both_ways(add):
        if number(other) == summand:
            return producer(one, op_type)
    return None


def _fuse(found: Activation, graph: ir.Graph) -> None:
    biased = biased_product(producer(found.source, "Add"))
    raw = biased.raw if biased is not None else found.source
    if producer(raw, "MatMul", "FusedMatMul") is None or not _is_read_here_alone(found):
        return
    bias = biased.bias if biased is not None else None
    dtype = raw.dtype
    assert dtype is not None
    value, output = _gated(found.output, dtype)
    before, output = _joined(output) if value is None else (None, output)
    made = ir.Value(name=f"{output.name}.fused", shape=output.shape, type=ir.TensorType(dtype))
    given = [as_dtype(each, dtype, graph) for each in (raw, bias, value, None, before)]
    node = our_operator(GATED_ACTIVATION, given, [made], {"activation": found.kind, "packed": 0})
    last = output.producer()
    assert last is not None
    graph.insert_before(last, node)
    put_value(made, output, graph)


def _is_read_here_alone(found: Activation) -> bool:
    """True where nothing but the activation's own operators reads its source."""
    inside, waiting = set[ir.Node](), [found.output]
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if node is not None and value is not found.source and node not in inside:
            inside.add(node)
            waiting += [each for each in node.inputs if each is not None]
    alone = all(node in inside for node in readers(found.source))
    return alone and not found.source.is_graph_output()


def _gated(output: ir.Value, dtype: ir.DataType) -> tuple[ir.Value | None, ir.Value]:
    """The other factor, of one shape, of the only product that reads an activation, and that
    product; None and the activation where there is none."""
    mul = read_by(output, "Mul")
    if mul is None:
        return None, output
    for one, other in both_ways(mul):
        if (
            one is output
            and other is not None
            and same_shape(one, other)
            and not is_constant(other)
            # What is of fp32 may not fit in 16 bits.
            and other.dtype in (dtype, *NARROW)
        ):
            return other, mul.outputs[0]
    return None, output


def _joined(output: ir.Value) -> tuple[ir.Value | None, ir.Value]:
    """The value before an activation in the Concat of rows that reads it, and that Concat; None and
    the activation where there is none."""
    concat = only_reader(output, "Concat")
    if concat is None or len(concat.inputs) != 2:
        return None, output
    first, second = concat.inputs
    rows, axis = rank(output), concat.attributes["axis"].as_int()
    if second is not output or first is None or rows is None or axis not in (-1, rows - 1):
        return None, output
    if width(first) is None or first.dtype != output.dtype:
        return None, output
    return first, concat.outputs[0]

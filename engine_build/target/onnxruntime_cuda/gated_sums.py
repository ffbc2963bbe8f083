"""Residual sums of a transformer's branches, as `GatedSumNorm`: the end of one branch, and the norm
that the next branch begins with.

    product -> Add bias -> [RMS norm] -> Mul gate -> Add residual -> norm
                                                                `-> the next residual

One kernel of ours reads and writes each row once for all of this. A gate is a modulation
`[R, 1, C]`, maybe behind a Tanh.
"""

from dataclasses import dataclass, replace

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.biases import biased_product
from engine_build.target.onnxruntime_cuda.modulated_norms import is_modulation
from engine_build.target.onnxruntime_cuda.operators import (
    BRANCH,
    GATED_SUM_NORM,
    WEIGHT,
    X,
    given_input,
    our_operator,
)
from engine_build.target.onnxruntime_cuda.patterns import (
    both_ways,
    depends_on,
    has_one_reader,
    is_constant,
    is_vector,
    producer,
    rank,
    readers,
    same_shape,
    uncast,
)
from engine_build.target.onnxruntime_cuda.values import as_dtype, like, put_value


def fuse_gated_sums(model: ir.Model) -> None:
    """Fuse residual sums: those whose branch has a gate, and those that a norm of ours reads, in
    place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type == "Add" and rank(node.outputs[0]) == 3:
            _fuse_sum(node, graph)


@dataclass(frozen=True, slots=True)
class _Branch:
    """The summand of a residual sum beside the residual."""

    value: ir.Value
    bias: ir.Value | None = None
    weight: ir.Value | None = None
    epsilon: float = 0.0
    gate: ir.Value | None = None
    gate_tanh: bool = False


def _fuse_sum(add: ir.Node, graph: ir.Graph) -> None:
    total = add.outputs[0]
    norm, found = _norm_of(total), _parts(add)
    if found is None or total.is_graph_output():
        return
    residual, branch = found
    # What was a sum in fp32 may not fit in 16 bits.
    wide = total.dtype == residual.dtype == ir.DataType.FLOAT
    made_as = branch.value.dtype if norm is None else norm.outputs[0].dtype
    dtype = ir.DataType.FLOAT if wide else made_as
    assert dtype is not None
    made = ir.Value(name=f"{total.name}.sum", shape=total.shape, type=ir.TensorType(dtype))
    given = [residual, branch.value, branch.bias, branch.weight, branch.gate]
    settings: dict[str, int | float | str] = {
        "branch_epsilon": branch.epsilon,
        "gate_tanh": int(branch.gate_tanh),
    }
    if norm is not None:
        normed = like(norm.outputs[0], f"{norm.outputs[0].name}.fused")
        normed.type = made.type
        given += norm.inputs[WEIGHT:]
        settings |= {"norm": _kind(norm), "epsilon": _epsilon(norm)}
        put_value(normed, norm.outputs[0], graph)
        graph.remove(norm, safe=True)
    elif branch.gate is not None:
        normed = ir.Value(name="")
        settings |= {"norm": "rms", "epsilon": 0.0}
    else:
        return
    inputs = [as_dtype(each, dtype, graph) for each in given]
    graph.insert_before(add, our_operator(GATED_SUM_NORM, inputs, [normed, made], settings))
    put_value(made, total, graph)


def _kind(norm: ir.Node) -> str:
    return norm.attributes["norm"].as_string()


def _epsilon(norm: ir.Node) -> float:
    return norm.attributes["epsilon"].as_float()


def _norm_of(total: ir.Value) -> ir.Node | None:
    """The norm of ours, with no sum of its own, that reads a sum; its modulations do not."""
    seen = [total, *(each.outputs[0] for each in readers(total) if each.op_type == "Cast")]
    found = [
        node
        for value in seen
        for node in readers(value)
        if node.op_type == GATED_SUM_NORM and node.inputs[X] is value
        if given_input(node, BRANCH) is None
    ]
    if len(found) != 1 or depends_on(found[0].inputs[WEIGHT:], total):
        return None
    return found[0]


def _parts(add: ir.Node) -> tuple[ir.Value, _Branch] | None:
    """The residual and the branch of a sum; None for a sum of something else."""
    for residual, other in both_ways(add):
        branch = _branch(other) if same_shape(residual, other) else None
        if branch is not None and residual is not None and not is_constant(residual):
            return residual, branch
    return None


def _branch(value: ir.Value | None) -> _Branch | None:
    """The parts of a value that one sum reads: a product, maybe with a bias, a norm or a gate."""
    if value is None or not _has_one_final_reader(value):
        return None
    gated = producer(value, "Mul")
    return _gated(gated) if gated is not None else _ungated(value)


def _gated(mul: ir.Node) -> _Branch | None:
    for gate, value in both_ways(mul):
        if value is None or not is_modulation(gate, value) or not _has_one_final_reader(value):
            continue
        found, tanh = _ungated(value), producer(gate, "Tanh")
        if found is not None:
            opened = gate if tanh is None else uncast(tanh.inputs[0])
            return replace(found, gate=opened, gate_tanh=tanh is not None)
    return None


def _ungated(value: ir.Value) -> _Branch | None:
    product = biased_product(producer(value, "Add"))
    if product is not None:
        return _Branch(product.raw, product.bias)
    norm = producer(value, GATED_SUM_NORM)
    if norm is not None and _is_rms_alone(norm):
        source = norm.inputs[X]
        assert source is not None
        return _Branch(source, None, norm.inputs[WEIGHT], _epsilon(norm))
    return _Branch(value) if producer(value, "MatMul", "FusedMatMul") is not None else None


def _is_rms_alone(norm: ir.Node) -> bool:
    """True for an RMS norm with a weight and with no sum and no modulation."""
    given = [index for index, value in enumerate(norm.inputs) if value is not None]
    return _kind(norm) == "rms" and given == [X, WEIGHT] and is_vector(norm.inputs[WEIGHT])


def _has_one_final_reader(value: ir.Value) -> bool:
    """True where one node reads a value, Casts aside."""
    seen = value
    while has_one_reader(seen):
        (reader,) = readers(seen)
        if reader.op_type != "Cast":
            return True
        seen = reader.outputs[0]
    return False

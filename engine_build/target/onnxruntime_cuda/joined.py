"""Small products of one input as one product: the embedding of the time that every residual block
of a UNet projects with a matrix of its own.

A product of a few vectors takes as long as its launch. The joined matrix is a Concat of weights,
which ONNX Runtime folds when it opens the graph, so that every weight keeps its name; where
weights are inputs, as LoRAs want them, the Concat runs at every step, at the device's bandwidth.
"""

from collections import defaultdict
from collections.abc import Sequence

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.kernels import LARGEST_CONCAT
from engine_build.target.onnxruntime_cuda.patterns import extents, is_constant, is_vector
from engine_build.target.onnxruntime_cuda.values import constant

_LARGEST = 2**25
"""The most elements of a joined matrix, which is copied when the graph is opened: enough for the
projections of SDXL (18 million), and not for the modulations of Flux."""


def join_products(model: ir.Model) -> None:
    """Join the Gemms of vectors `[N, K]` by their input, in place."""
    graph = model.graph
    groups: dict[ir.Value, list[ir.Node]] = defaultdict(list)
    for node in graph:
        if node.op_type == "Gemm" and _is_plain(node) and node.inputs[0] is not None:
            groups[node.inputs[0]].append(node)
    for nodes in groups.values():
        if 1 < len(nodes) <= LARGEST_CONCAT and sum(map(_elements, nodes)) <= _LARGEST:
            _join(nodes, graph)


def _is_plain(gemm: ir.Node) -> bool:
    """True for `x @ weight.T + bias` with constants."""
    if len(gemm.inputs) != 3 or gemm.outputs[0].is_graph_output():
        return False
    attributes = gemm.attributes
    transposed = "transB" in attributes and attributes["transB"].as_int() == 1
    straight = "transA" not in attributes or attributes["transA"].as_int() == 0
    scales = [attributes[name].as_float() for name in ("alpha", "beta") if name in attributes]
    weight, bias = extents(gemm.inputs[1]), extents(gemm.inputs[2])
    constant = is_constant(gemm.inputs[1]) and is_vector(gemm.inputs[2])
    fits = weight is not None and bias == weight[:1] and extents(gemm.inputs[0]) is not None
    return transposed and straight and constant and fits and all(scale == 1 for scale in scales)


def _elements(gemm: ir.Node) -> int:
    weight = gemm.inputs[1]
    assert weight is not None
    assert weight.shape is not None
    return int(weight.shape.numpy()[0] * weight.shape.numpy()[1])


def _join(gemms: Sequence[ir.Node], graph: ir.Graph) -> None:
    first = gemms[0]
    name = f"{first.outputs[0].name}.joined"
    weights, biases = ([gemm.inputs[index] for gemm in gemms] for index in (1, 2))
    widths = [int(bias.shape.numpy()[0]) for bias in biases if bias and bias.shape]
    dtype, source = first.outputs[0].type, first.inputs[0]
    assert source is not None
    assert source.shape is not None
    total = sum(widths)
    weight = ir.Value(name=f"{name}.weight", shape=ir.Shape([total, source.shape[1]]), type=dtype)
    bias = ir.Value(name=f"{name}.bias", shape=ir.Shape([total]), type=dtype)
    answer = ir.Value(name=name, shape=ir.Shape([source.shape[0], total]), type=dtype)
    split = constant(graph, f"{name}.widths", widths)
    parts = [
        ir.Value(name=f"{gemm.outputs[0].name}.part", shape=gemm.outputs[0].shape, type=dtype)
        for gemm in gemms
    ]
    made = [
        ir.node("Concat", weights, {"axis": 0}, outputs=[weight], name=f"{weight.name}.node"),
        ir.node("Concat", biases, {"axis": 0}, outputs=[bias], name=f"{bias.name}.node"),
        ir.node("Gemm", [source, weight, bias], first.attributes, outputs=[answer], name=name),
        ir.node("Split", [answer, split], {"axis": 1}, outputs=parts, name=f"{name}.split"),
    ]
    graph.insert_before(first, made)
    for gemm, part in zip(gemms, parts, strict=True):
        gemm.outputs[0].replace_all_uses_with(part)

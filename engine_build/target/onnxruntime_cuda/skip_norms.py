"""Residual sums of rows: with the layer norm behind them as `SkipLayerNormalization`, else as
`BiasAdd`; each takes the bias of the product before the sum.

A block of a transformer ends its products so:

    product -> Add bias -> Add residual -> LayerNormalization
                                       `-> the next residual

`SkipLayerNormalization` is one kernel for all of it: it reads the product and the residual once,
and writes the norm and the sum. Its mean and variance are in fp32 from ONNX Runtime 1.31 on, the
least that `cuda` takes. A sum without a norm is a `BiasAdd`.

A bias whose sum is normed without a residual is deferred: in real numbers `norm(p + b)` is the norm
of `p + p + 2b` with four times the epsilon, and the residual's readers add `b` to a bias of their
own. The doubled sum has half of fp16's room.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.SkipLayerNormalization
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BiasAdd
https://github.com/microsoft/onnxruntime/pull/28682
"""

from collections.abc import Sequence

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.biases import Biased, biased, biased_product
from engine_build.target.onnxruntime_cuda.kernels import takes
from engine_build.target.onnxruntime_cuda.patterns import (
    DOMAIN,
    is_constant,
    is_residual,
    producer,
    rank,
    readers,
    width,
)
from engine_build.target.onnxruntime_cuda.values import (
    constant_sum,
    like,
    own_operator,
    put_in_place,
)


def fuse_skip_norms(model: ir.Model) -> None:
    """Fuse the layer norms of residual sums `[B, S, C]`, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type == "LayerNormalization" and _is_of_rows(node):
            _defer_bias(node, graph)
            _fuse_norm(node, graph)


def fuse_bias_adds(model: ir.Model) -> None:
    """Fuse residual sums `[B, S, C]` of a product with a bias that no norm follows, in place."""
    graph = model.graph
    for node in list(graph):
        if node.op_type == "Add" and rank(node.outputs[0]) == 3 and is_residual(node):
            found = _biased_input(node)
            if found is not None and takes("BiasAdd", node.outputs[0].dtype):
                product, skip = found
                made = own_operator("BiasAdd", [product.raw, product.bias, skip], node.outputs[0])
                put_in_place(made, node, graph)


def _is_of_rows(norm: ir.Node) -> bool:
    """True for a norm of the last of three axes, by constants: its node may stand before them."""
    if not all(map(is_constant, norm.inputs[1:])):
        return False
    source, axis = norm.inputs[0], norm.attributes.get("axis")
    last = axis is None or axis.as_int() in (-1, 2)
    return rank(source) == 3 and last and not norm.outputs[0].is_graph_output()


def _fuse_norm(norm: ir.Node, graph: ir.Graph) -> None:
    add = producer(norm.inputs[0], "Add")
    if add is None or rank(add.outputs[0]) != 3 or not is_residual(add):
        return
    found = _biased_input(add)
    if found is not None:
        product, skip = found
        node = _skip_norm(norm, product.raw, skip, product.bias)
    else:
        first, second = add.inputs
        assert first is not None
        assert second is not None
        node = _skip_norm(norm, first, second, None)
    norm.outputs[0].replace_all_uses_with(node.outputs[0])
    add.outputs[0].replace_all_uses_with(node.outputs[3])
    graph.insert_before(add, node)


def _biased_input(add: ir.Node) -> tuple[Biased, ir.Value] | None:
    """The summand that is a product with a bias, and the other summand."""
    first, second = add.inputs
    for one, other in ((first, second), (second, first)):
        product = biased(one)
        if product is not None and other is not None:
            return product, other
    return None


def _skip_norm(
    norm: ir.Node, raw: ir.Value, skip: ir.Value, bias: ir.Value | None, scale: float = 1.0
) -> ir.Node:
    """The norm of `raw + skip + bias`; its output 3 is the sum. `scale`: of the sum, whose square
    multiplies the epsilon."""
    name = norm.outputs[0].name
    _, gamma, *beta = norm.inputs
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    normed = like(norm.outputs[0], f"{name}.fused")
    total = like(raw, f"{name}.sum")
    return ir.node(
        "SkipLayerNormalization",
        [raw, skip, gamma, beta[0] if beta else None, bias],
        {"epsilon": epsilon * scale**2},
        domain=DOMAIN,
        outputs=[normed, ir.Value(name=""), ir.Value(name=""), total],
        name=f"{name}.skip_norm",
    )


def _defer_bias(norm: ir.Node, graph: ir.Graph) -> None:
    """Take the bias from the sum of a product and a bias that a norm reads, where all other readers
    are residual sums with a bias of their own."""
    product = biased_product(producer(norm.inputs[0], "Add"))
    total = norm.inputs[0]
    if product is None or total is None or total.is_graph_output():
        return
    others = [each for each in readers(total) if each is not norm]
    deferred = _deferred(total, others)
    if deferred is None or width(total) is None:
        return
    for add, own in deferred:
        place = list(own.add.inputs).index(own.bias)
        own.add.replace_input_with(place, constant_sum(own.bias, product.bias, graph))
        add.replace_input_with(list(add.inputs).index(total), product.raw)
    twice = constant_sum(product.bias, product.bias, graph)
    node = _skip_norm(norm, product.raw, product.raw, twice, scale=2.0)
    graph.insert_before(norm, node)
    norm.outputs[0].replace_all_uses_with(node.outputs[0])


def _deferred(total: ir.Value, adds: Sequence[ir.Node]) -> list[tuple[ir.Node, Biased]] | None:
    """The residual sums that read `total`, each with the product that it adds to it; None where
    something else reads `total`."""
    found = []
    for add in adds:
        other = [value for value in add.inputs if value is not total]
        product = biased(other[0]) if add.op_type == "Add" and len(other) == 1 else None
        if product is None or not is_residual(add):
            return None
        found.append((add, product))
    return found

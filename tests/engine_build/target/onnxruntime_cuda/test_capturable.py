"""Nodes that no capture can hold are named; nodes that only look alike are not."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.capturable import Refusal, uncapturable
from tests.engine_build.target.onnxruntime_cuda.graphs import graph

CONSTANTS = {
    "zero": np.array([0]),
    "two": np.array([2]),
    "one": np.array(1),
    "rows": np.array([0, 0, -1]),
    "last": np.array([-1]),
}


def model(body: str, outputs: str) -> ir.Model:
    """A graph of `x`, of floats, and `ids` and `size`, of whole numbers."""
    kinds = "".join(f", int64{list(value.shape) or ''} {name}" for name, value in CONSTANTS.items())
    text = f"g (float[b, 3, n] x, int64[b, 7] ids, int64[2] size{kinds}) => ({outputs})"
    found = graph(f"{text} {{ {body} }}", **CONSTANTS)
    passes.ShapeInferencePass()(found)
    for node in found.graph:
        node.name = f"the {node.op_type}"
    return found


REFUSED = {
    "a result that decides a shape": (
        "y = NonZero (x)",
        "int64[3, m] y",
        {"the NonZero": "waits for the device"},
    ),
    "a branch": (
        (
            "m = ReduceMax <keepdims = 0> (ids) p = Cast <to = 9> (m)"
            "y = If <then_branch = g1 () => (float[b, 3, n] t) { t = Neg (x) },"
            " else_branch = g2 () => (float[b, 3, n] e) { e = Abs (x) }> (p)"
        ),
        "float[b, 3, n] y",
        {"the If": "lets the host decide"},
    ),
    "an operator that nobody has looked at": (
        "y = Det (x)",
        "float[b, 3, n] y",
        {"the Det": "not known to have a CUDA kernel"},
    ),
    "a dtype without a kernel": (
        "y = ReduceProd <keepdims = 0> (ids, last)",
        "int64[b] y",
        {
            "the ReduceProd": "no CUDA kernel for int64",
            "y": "the host computes this output",
        },
    ),
    "a shape that the device computes": (
        "m = ReduceMax <keepdims = 0> (ids) k = Unsqueeze (m, zero) y = Expand (one, k)",
        "int64[m] y",
        {"the Expand": "reads k on the host, and the device has it"},
    ),
    "a shape that comes in": (
        "y = Reshape (ids, size)",
        "int64[p, q] y",
        {"the Reshape": "reads size on the host, and the device has it"},
    ),
    "a number that the host computes": (
        "s = Shape (x) c = Cast <to = 1> (s) p = Neg (x) y = Mul (p, c)",
        "float[b, 3, 3] y",
        {"the Mul": "reads c on the device, and the host computes it"},
    ),
    # ONNX Runtime takes an input of the graph for as good as on the host.
    "a small sum that takes an input to the host": (
        "s = Shape <start = 0, end = 2> (x) c = Add (size, s) y = Neg (c)",
        "int64[2] y",
        {
            "the Add": "reads size on the host, and the device has it",
            "y": "the host computes this output",
        },
    ),
    "a shape as an output": (
        "y = Shape (x)",
        "int64[3] y",
        {"y": "the host computes this output"},
    ),
}
HELD = {
    "a shape that the host computes": (
        (
            "s = Shape <start = 0, end = 1> (x) c = Concat <axis = 0> (s, two) e = Expand (one, c)"
            "y = Neg (e)"
        ),
        "int64[b, 2] y",
    ),
    "a count that the host multiplies": (
        "s = Shape (x) n = ReduceProd <keepdims = 1> (s) y = Reshape (x, n)",
        "float[m] y",
    ),
    "a shape of many parts": (
        (
            "s = Shape <start = 0, end = 1> (x)"
            f"c = Concat <axis = 0> ({', '.join(['s'] * 33)}) y = ConstantOfShape (c)"
        ),
        "float y",
    ),
    "a row of the device": ("y = GatherND <batch_dims = 0> (x, ids)", "float[b] y"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_capture_can_hold_is_told_by_its_node(name: str) -> None:
    body, outputs, expected = REFUSED[name]
    found = [(each.node, each.reason) for each in uncapturable(model(body, outputs))]
    assert {node for node, _ in found} == expected.keys()
    for node, reason in expected.items():
        assert any(reason in told for at, told in found if at == node), found


@pytest.mark.parametrize("name", HELD)
def test_what_the_host_computes_of_shapes_alone_does_no_harm(name: str) -> None:
    assert uncapturable(model(*HELD[name])) == ()


def test_a_refusal_names_its_node() -> None:
    assert str(Refusal("node_stack", "too wide")) == "node_stack: too wide"

"""Convolutions with channels last become ones with channels first, and give the same."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from engine_build.target.onnxruntime_cuda.plain_convolutions import put_plain_convolutions
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

CHANCE = np.random.default_rng(3)
PICTURE = CHANCE.normal(size=(2, 6, 5, 4)).astype(np.float32)
WEIGHT = CHANCE.normal(size=(8, 3, 3, 2)).astype(np.float32)
BIAS = CHANCE.normal(size=8).astype(np.float32)

ATTRIBUTES = "dilations = [1, 1], group = 2, pads = [1, 1, 1, 1], strides = [2, 2]"


def convolving(inputs: str) -> ir.Model:
    return graph(
        "g (float[2, 6, 5, 4] x, float[8, 3, 3, 2] w, float[8] b) => (float[2, 3, 3, 8] y)"
        f"{{ c = com.microsoft.NhwcConv <{ATTRIBUTES}> ({inputs}) y = Relu (c) }}",
        w=WEIGHT,
        b=BIAS,
    )


def plain(model: ir.Model) -> ir.Model:
    changed = ir.from_proto(ir.to_proto(model))
    put_plain_convolutions(changed)
    onnx.checker.check_model(ir.to_proto(changed))
    return changed


@pytest.mark.parametrize("inputs", ["x, w, b", "x, w"])
def test_a_convolution_gives_what_it_gave(inputs: str) -> None:
    model = convolving(inputs)
    found = plain(model)
    assert operators(found) == ["Transpose", "Transpose", "Conv", "Transpose", "Relu"]
    np.testing.assert_allclose(run(found, PICTURE)[0], run(model, PICTURE)[0], atol=1e-5)


def test_all_else_stays_byte_for_byte() -> None:
    model = graph("g (float[n] x) => (float[n] y) { NhwcConv = Abs (x) y = Neg (NhwcConv) }")
    content = ir.to_proto(model).SerializeToString()
    assert ir.to_proto(plain(model)).SerializeToString() == content


def test_an_output_of_the_graph_keeps_its_name() -> None:
    model = graph(
        "g (float[2, 6, 5, 4] x, float[8, 3, 3, 2] w) => (float[2, 3, 3, 8] y)"
        f"{{ y = com.microsoft.NhwcConv <{ATTRIBUTES}> (x, w) }}",
        w=WEIGHT,
    )
    found = plain(model)
    assert [value.name for value in found.graph.outputs] == ["y"]
    np.testing.assert_allclose(run(found, PICTURE)[0], run(model, PICTURE)[0], atol=1e-5)

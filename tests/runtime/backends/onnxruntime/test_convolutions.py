"""Convolutions with channels last become ones with channels first, and give the same."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from runtime.backends.onnxruntime.convolutions import with_plain_convolutions
from runtime.errors import BackendError
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
    content = ir.to_proto(model).SerializeToString()
    changed = onnx.load_model_from_string(with_plain_convolutions(content))
    onnx.checker.check_model(changed)
    return ir.from_proto(changed)


@pytest.mark.parametrize("inputs", ["x, w, b", "x, w"])
def test_a_convolution_gives_what_it_gave(inputs: str) -> None:
    model = convolving(inputs)
    found = plain(model)
    assert operators(found) == ["Transpose", "Transpose", "Conv", "Transpose", "Relu"]
    np.testing.assert_allclose(run(found, PICTURE)[0], run(model, PICTURE)[0], atol=1e-5)


def test_all_else_stays_byte_for_byte() -> None:
    model = graph("g (float[n] x) => (float[n] y) { NhwcConv = Abs (x) y = Neg (NhwcConv) }")
    content = ir.to_proto(model).SerializeToString()
    assert with_plain_convolutions(content) == content


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(BackendError, match="no ONNX: a field has the type 7"):
        with_plain_convolutions(b"\x0f")

"""GELU of a product with a bias."""

import numpy as np
import onnx_ir.passes.common as passes

from engine_build.target.onnxruntime_cuda.bias_gelu import fuse_bias_gelus
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

GELU = """
gelu (float[B, S, 4] x, float[4, 6] weight, float[6] bias) => (float[B, S, 6] y)
<float[B, S, 6] product, float[B, S, 6] shifted, float[B, S, 6] open>
{{
    product = MatMul (x, weight)
    shifted = Add (product, bias)
    open = Gelu <approximate = "{kind}"> (shifted)
    y = Neg (open)
}}
"""
RANDOM = np.random.default_rng(1)


def gelu(kind: str):
    weight, bias = RANDOM.normal(size=(4, 6)), RANDOM.normal(size=6)
    return graph(GELU.format(kind=kind), weight=weight.astype("f4"), bias=bias.astype("f4"))


def test_the_exact_form_takes_the_bias() -> None:
    model = gelu("none")
    x = RANDOM.normal(size=(2, 3, 4)).astype(np.float32)
    (expected,) = run(model, x)
    fuse_bias_gelus(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["MatMul", "BiasGelu", "Neg"]
    np.testing.assert_allclose(run(model, x)[0], expected, atol=1e-6)


def test_the_approximate_form_stays() -> None:
    model = gelu("tanh")
    before = operators(model)
    fuse_bias_gelus(model)
    assert operators(model) == before

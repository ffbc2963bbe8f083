"""GEGLU as one operator, at the widths that its kernel takes."""

import numpy as np
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.geglu import WIDTHS, fuse_geglus
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

GEGLU = """
geglu (float[B, S, 4] x, float[4, {width}] weight, float[{width}] bias) => (float[B, S, {half}] y)
<float[B, S, {width}] product, float[B, S, {width}] shifted, float[B, S, {half}] hidden,
 float[B, S, {half}] gate, float[B, S, {half}] open, float[B, S, {half}] gated>
{{
    product = MatMul (x, weight)
    shifted = {sum}
    hidden, gate = Split <axis = 2, num_outputs = 2> (shifted)
    open = Gelu <approximate = "{kind}"> (gate)
    gated = Mul ({factors})
    y = Neg (gated)
}}
"""
RANDOM = np.random.default_rng(1)


def geglu(
    width: int = 2560,
    kind: str = "none",
    factors: str = "hidden, open",
    sum_: str = "Add (product, bias)",
):
    text = GEGLU.format(width=width, half=width // 2, kind=kind, factors=factors, sum=sum_)
    weight, bias = RANDOM.normal(size=(4, width)), RANDOM.normal(size=width)
    return graph(text, weight=weight.astype(np.float32), bias=bias.astype(np.float32))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("factors", ["hidden, open", "open, hidden"])
def test_a_geglu_becomes_one_operator_that_computes_the_same(width: int, factors: str) -> None:
    model = geglu(width, factors=factors)
    x = RANDOM.normal(size=(2, 3, 4)).astype(np.float32)
    (expected,) = run(model, x)
    fuse_geglus(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["MatMul", "BiasSplitGelu", "Neg"]
    np.testing.assert_allclose(run(model, x)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        geglu(width=640),
        geglu(kind="tanh"),
        geglu(factors="gate, open"),
        geglu(sum_="Identity (product)"),
    ],
    ids=["another width", "another GELU", "the gate by itself", "no bias"],
)
def test_what_the_kernel_does_not_compute_stays(model) -> None:
    before = operators(model)
    fuse_geglus(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == before

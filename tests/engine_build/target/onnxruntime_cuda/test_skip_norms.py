"""Residual sums of rows, with and without a norm behind them."""

import numpy as np
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.skip_norms import fuse_bias_adds, fuse_skip_norms
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

BLOCK = """
block (float[B, S, 4] x, float[B, S, 6] residual, float[4, 6] weight, float[6] bias,
       float[6] gamma, float[6] beta) => (float[B, S, 6] y, float[B, S, 6] z)
<float[B, S, 6] product, float[B, S, 6] shifted, float[B, S, 6] total, float[B, S, 6] normed>
{{
    product = MatMul (x, weight)
    shifted = {bias}
    total = Add ({summands})
    normed = LayerNormalization <axis = -1, epsilon = 0.01> (total, gamma, beta)
    y = Neg (normed)
    z = Neg (total)
}}
"""

FIRST = """
first (float[B, S, 4] x, float[4, 6] weight, float[6] bias, float[6, 6] weight2, float[6] bias2,
       float[6] gamma, float[6] beta) => (float[B, S, 6] y)
<float[B, S, 6] product, float[B, S, 6] shifted, float[B, S, 6] normed, float[B, S, 6] product2,
 float[B, S, 6] shifted2, float[B, S, 6] total, float[B, S, 6] normed2, float[B, S, 6] other>
{{
    product = MatMul (x, weight)
    shifted = Add (product, bias)
    normed = LayerNormalization <axis = -1, epsilon = 0.5> (shifted, gamma, beta)
    product2 = MatMul (normed, weight2)
    shifted2 = Add (product2, bias2)
    total = Add (shifted2, shifted)
    normed2 = LayerNormalization <axis = -1, epsilon = 0.01> (total, gamma, beta)
    other = {other}
    y = Add (normed2, other)
}}
"""
RANDOM = np.random.default_rng(1)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def block(
    bias: str = "Add (product, bias)", summands: str = "shifted, residual", text: str = BLOCK
):
    return graph(
        text.format(bias=bias, summands=summands),
        weight=numbers(4, 6),
        bias=numbers(6),
        gamma=numbers(6),
        beta=numbers(6),
    )


def first(other: str = "Neg (total)"):
    return graph(
        FIRST.format(other=other),
        weight=numbers(4, 6),
        bias=numbers(6),
        weight2=numbers(6, 6),
        bias2=numbers(6),
        gamma=numbers(6),
        beta=numbers(6),
    )


@pytest.mark.parametrize(
    ("bias", "summands"),
    [
        ("Add (product, bias)", "shifted, residual"),
        ("Add (bias, product)", "residual, shifted"),
        ("Identity (product)", "shifted, residual"),
    ],
    ids=["bias", "the other way round", "no bias"],
)
def test_bias_residual_and_norm_become_one_operator(bias: str, summands: str) -> None:
    model = block(bias, summands)
    inputs = numbers(2, 3, 4), numbers(2, 3, 6)
    expected = run(model, *inputs)
    fuse_skip_norms(model)
    passes.RemoveUnusedNodesPass()(model)
    kept = ["Identity"] if bias.startswith("Identity") else []
    assert operators(model) == ["MatMul", *kept, "SkipLayerNormalization", "Neg", "Neg"]
    for found, wanted in zip(run(model, *inputs), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_norm_of_another_axis_stays() -> None:
    text = BLOCK.replace("axis = -1", "axis = 1")
    text = text.replace("float[6] gamma, float[6] beta", "float[3, 6] gamma, float[3, 6] beta")
    model = graph(
        text.format(bias="Add (product, bias)", summands="shifted, residual"),
        weight=numbers(4, 6),
        bias=numbers(6),
        gamma=numbers(3, 6),
        beta=numbers(3, 6),
    )
    before = operators(model)
    fuse_skip_norms(model)
    assert operators(model) == before


def test_a_bias_that_is_normed_without_a_residual_is_deferred_exactly() -> None:
    """The epsilon is large, so that one which did not grow with the sum would be seen."""
    model = first()
    x = numbers(2, 3, 4)
    (expected,) = run(model, x)
    fuse_skip_norms(model)
    passes.RemoveUnusedNodesPass()(model)
    found = operators(model)
    assert found.count("SkipLayerNormalization") == 2
    # The sums of constants, which are folded, and the last sum.
    assert found.count("Add") == 3
    np.testing.assert_allclose(run(model, x)[0], expected, atol=1e-5)


def test_a_bias_is_not_deferred_past_a_reader_that_has_none_to_add_to() -> None:
    model = first(other="Neg (shifted)")
    x = numbers(2, 3, 4)
    (expected,) = run(model, x)
    fuse_skip_norms(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model).count("SkipLayerNormalization") == 1
    assert operators(model).count("LayerNormalization") == 1
    np.testing.assert_allclose(run(model, x)[0], expected, atol=1e-5)


def test_a_sum_with_a_bias_and_no_norm_becomes_one_operator() -> None:
    norm = "LayerNormalization <axis = -1, epsilon = 0.01> (total, gamma, beta)"
    text = BLOCK.replace(norm, "Abs (total)")
    model = block(text=text)
    inputs = numbers(2, 3, 4), numbers(2, 3, 6)
    expected = run(model, *inputs)
    fuse_bias_adds(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["MatMul", "BiasAdd", "Abs", "Neg", "Neg"]
    for found, wanted in zip(run(model, *inputs), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_sum_in_bf16_has_no_kernel() -> None:
    text = BLOCK.replace("float[", "bfloat16[")
    model = graph(text.format(bias="Add (product, bias)", summands="shifted, residual"))
    before = operators(model)
    fuse_bias_adds(model)
    assert operators(model) == before

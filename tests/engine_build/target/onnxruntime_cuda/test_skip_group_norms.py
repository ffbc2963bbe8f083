"""Sums of pictures, with and without a group norm behind them."""

import numpy as np
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.skip_group_norms import (
    fuse_picture_sums,
    fuse_skip_group_norms,
)
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

CONV = 'auto_pad = "NOTSET", dilations = [1, 1], group = 1, kernel_shape = [1, 1], strides = [1, 1]'
NORM = "activation = 1, channels_last = 1, epsilon = 0.1, groups = 2"

TIMED = f"""
timed (float[N, H, W, 4] x, float[N, 8] time, float[8, 1, 1, 4] kernel, float[8] bias,
       float[8] gamma, float[8] beta, int64[1] two, int64[1] three) => (float[N, H, W, 8] y)
<float[N, H, W, 8] picture, float[N, 8, 1] one, float[N, 8, 1, 1] both, float[N, 1, 1, 8] last,
 float[N, H, W, 8] total, float[N, H, W, 8] normed>
{{{{
    picture = com.microsoft.NhwcConv <{CONV}> (x, kernel, bias)
    one = Unsqueeze (time, two)
    both = Unsqueeze (one, three)
    last = Transpose <perm = [0, 2, 3, 1]> (both)
    total = Add ({{summands}})
    normed = com.microsoft.GroupNorm <{NORM}> (total, gamma, beta)
    y = Neg (normed)
}}}}
"""

RESIDUAL = f"""
residual (float[N, H, W, 4] x, float[8, 1, 1, 4] kernel, float[8] bias, float[8, 1, 1, 4] kernel2,
       float[8] bias2, float[8] gamma, float[8] beta)
    => (float[N, H, W, 8] y, float[N, H, W, 8] z)
<float[N, H, W, 8] picture, float[N, H, W, 8] shortcut, float[N, H, W, 8] total,
 float[N, H, W, 8] normed>
{{{{
    picture = com.microsoft.NhwcConv <{CONV}> (x, kernel, bias)
    shortcut = com.microsoft.NhwcConv <{CONV}> (x, kernel2, bias2)
    total = Add (shortcut, picture)
    normed = {{norm}}
    y = Neg (normed)
    z = Neg (total)
}}}}
"""
GROUP_NORM = f"com.microsoft.GroupNorm <{NORM}> (total, gamma, beta)"

ROWS = """
rows (float[N, S, 4] x, float[N, H, W, 8] skip, float[4, 8] weight, float[8] bias,
      int64[4] shape) => (float[N, H, W, 8] y)
<float[N, S, 8] product, float[N, S, 8] shifted, float[N, H, W, 8] picture,
 float[N, H, W, 8] total>
{
    product = MatMul (x, weight)
    shifted = Add (product, bias)
    picture = Reshape (shifted, shape)
    total = Add (picture, skip)
    y = Neg (total)
}
"""
RANDOM = np.random.default_rng(1)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def timed(summands: str = "picture, last"):
    return graph(
        TIMED.format(summands=summands),
        kernel=numbers(8, 1, 1, 4),
        bias=numbers(8),
        gamma=numbers(8),
        beta=numbers(8),
        two=np.array([2]),
        three=np.array([3]),
    )


def residual(norm: str):
    return graph(
        RESIDUAL.format(norm=norm),
        kernel=numbers(8, 1, 1, 4),
        bias=numbers(8),
        kernel2=numbers(8, 1, 1, 4),
        bias2=numbers(8),
        gamma=numbers(8),
        beta=numbers(8),
    )


@pytest.mark.parametrize("summands", ["picture, last", "last, picture"])
def test_bias_time_and_norm_become_one_operator(summands: str) -> None:
    model = timed(summands)
    inputs = numbers(2, 3, 5, 4), numbers(2, 8)
    (expected,) = run(model, *inputs)
    fuse_skip_group_norms(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["NhwcConv", "Unsqueeze", "SkipGroupNorm", "Neg"]
    convolution = model.graph[0]
    assert len(convolution.inputs) == 2
    np.testing.assert_allclose(run(model, *inputs)[0], expected, atol=1e-5)


def test_both_biases_of_a_residual_and_its_norm_become_one_operator() -> None:
    model = residual(GROUP_NORM)
    x = numbers(2, 3, 5, 4)
    expected = run(model, x)
    fuse_skip_group_norms(model)
    passes.RemoveUnusedNodesPass()(model)
    # The Add is of the two biases, and is folded.
    assert operators(model) == ["Add", "NhwcConv", "NhwcConv", "SkipGroupNorm", "Neg", "Neg"]
    for found, wanted in zip(run(model, x), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_bias_stays_with_a_convolution_that_something_else_reads() -> None:
    model = residual(GROUP_NORM.replace("total", "picture"))
    x = numbers(2, 3, 5, 4)
    expected = run(model, x)
    fuse_skip_group_norms(model)
    fuse_picture_sums(model)
    passes.RemoveUnusedNodesPass()(model)
    biased = [len(node.inputs) for node in model.graph if node.op_type == "NhwcConv"]
    assert biased == [3, 2]
    for found, wanted in zip(run(model, x), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_sum_without_a_norm_takes_both_biases() -> None:
    model = residual("Abs (total)")
    x = numbers(2, 3, 5, 4)
    expected = run(model, x)
    fuse_picture_sums(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model).count("BiasAdd") == 1
    assert operators(model).count("Add") == 1
    for found, wanted in zip(run(model, x), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_rows_are_summed_with_a_picture_as_rows() -> None:
    """The end of a transformer in a UNet: a product with a bias is added to a picture."""
    shape = np.array([0, 3, 5, 8])
    model = graph(ROWS, weight=numbers(4, 8), bias=numbers(8), shape=shape)
    inputs = numbers(2, 15, 4), numbers(2, 3, 5, 8)
    (expected,) = run(model, *inputs)
    fuse_picture_sums(model)
    passes.RemoveUnusedNodesPass()(model)
    found = operators(model)
    assert found.count("BiasAdd") == 1
    assert "Add" not in found
    (bias_add,) = (node for node in model.graph if node.op_type == "BiasAdd")
    first = bias_add.inputs[0]
    assert first is not None
    assert first.name == "product"
    np.testing.assert_allclose(run(model, *inputs)[0], expected, atol=1e-6)

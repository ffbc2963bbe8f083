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


def both(model) -> None:
    fuse_skip_group_norms(model)
    fuse_picture_sums(model)
    passes.RemoveUnusedNodesPass()(model)


SHARED = f"""
shared (float[N, H, W, 4] x, float[N, 8] time, float[8, 1, 1, 4] kernel, float[8] bias,
        float[8] gamma, float[8] beta, int64[2] axes) => (float[N, H, W, 8] y)
<float[N, H, W, 8] one, float[N, H, W, 8] two, float[N, 1, 1, 8] spread, float[N, H, W, 8] a,
 float[N, H, W, 8] b, float[N, H, W, 8] c, float[N, H, W, 8] d>
{{
    one = com.microsoft.NhwcConv <{CONV}> (x, kernel, bias)
    two = com.microsoft.NhwcConv <{CONV}> (x, kernel, bias)
    spread = Unsqueeze (time, axes)
    a = Add (one, spread)
    b = Add (two, spread)
    c = com.microsoft.GroupNorm <{NORM}> (a, gamma, beta)
    d = com.microsoft.GroupNorm <{NORM}> (b, gamma, beta)
    y = Sub (c, d)
}}
"""


def test_two_pictures_share_an_embedding() -> None:
    model = graph(
        SHARED,
        kernel=numbers(8, 1, 1, 4),
        bias=numbers(8),
        gamma=numbers(8),
        beta=numbers(8),
        axes=np.array([1, 2]),
    )
    inputs = numbers(2, 3, 5, 4), numbers(2, 8)
    (expected,) = run(model, *inputs)
    both(model)
    assert operators(model).count("SkipGroupNorm") == 2
    np.testing.assert_allclose(run(model, *inputs)[0], expected, atol=1e-5)


DENSE = f"""
dense (float[N, H, W, 8] r, float[8, 1, 1, 8] kernel, float[8] bias) => (float[N, H, W, 8] y)
<float[N, H, W, 8] a, float[N, H, W, 8] b, float[N, H, W, 8] c, float[N, H, W, 8] d,
 float[N, H, W, 8] e>
{{
    a = com.microsoft.NhwcConv <{CONV}> (r, kernel, bias)
    b = Add (a, r)
    c = Relu (b)
    d = com.microsoft.NhwcConv <{CONV}> (c, kernel, bias)
    e = Add (d, r)
    y = Neg (e)
}}
"""


def test_a_picture_is_a_residual_twice() -> None:
    model = graph(DENSE, kernel=numbers(8, 1, 1, 8), bias=numbers(8))
    r = numbers(2, 3, 5, 8)
    (expected,) = run(model, r)
    both(model)
    assert operators(model).count("BiasAdd") == 2
    np.testing.assert_allclose(run(model, r)[0], expected, atol=1e-5)


def test_vectors_whose_numbers_are_rearranged_are_not_read_before() -> None:
    text = TIMED.format(summands="picture, last")
    text = text.replace("one = Unsqueeze (time, two)", "one = Transpose <perm = [1, 0]> (time)")
    text = text.replace("float[N, 8, 1] one", "float[8, N] one")
    text = text.replace("both = Unsqueeze (one, three)", "both = Reshape (one, shape)")
    text = text.replace("int64[1] two, int64[1] three", "int64[4] shape")
    weights = {"kernel": (8, 1, 1, 4), "bias": (8,), "gamma": (8,), "beta": (8,)}
    constants = {name: numbers(*shape) for name, shape in weights.items()}
    model = graph(text, **constants, shape=np.array([-1, 8, 1, 1]))
    inputs = numbers(3, 3, 5, 4), numbers(3, 8)
    (expected,) = run(model, *inputs)
    both(model)
    np.testing.assert_allclose(run(model, *inputs)[0], expected, atol=1e-5)


def test_rows_of_another_width_keep_their_bias() -> None:
    """Heads that are split off behind a product: its bias is no vector of the picture's."""
    text = ROWS.replace("float[N, H, W, 8]", "float[N, H, W, 4]")
    model = graph(text, weight=numbers(4, 8), bias=numbers(8), shape=np.array([0, 3, 10, 4]))
    inputs = numbers(2, 15, 4), numbers(2, 3, 10, 4)
    (expected,) = run(model, *inputs)
    both(model)
    assert "BiasAdd" not in operators(model)
    np.testing.assert_allclose(run(model, *inputs)[0], expected, atol=1e-6)


def test_vectors_of_another_batch_are_no_embedding() -> None:
    text = TIMED.format(summands="picture, last").replace(
        "float[N, H, W, 4] x", "float[1, H, W, 4] x"
    )
    text = text.replace("float[N, H, W, 8] picture", "float[1, H, W, 8] picture")
    weights = {"kernel": (8, 1, 1, 4), "bias": (8,), "gamma": (8,), "beta": (8,)}
    constants = {name: numbers(*shape) for name, shape in weights.items()}
    model = graph(text, **constants, two=np.array([2]), three=np.array([3]))
    both(model)
    assert "SkipGroupNorm" not in operators(model)

"""The functions that stand for CUDA's own operators, against PyTorch."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.engine_build.target.onnxruntime_cuda.graphs import graph, run

NORM = """
norm ({dtype}[2, 6, 4, 8] x, float[8] gamma, float[8] beta) => ({dtype}[2, 6, 4, 8] y)
{{
    y = com.microsoft.GroupNorm <activation = {silu}, channels_last = 1, epsilon = 0.01,
        groups = 4> (x, gamma, beta)
}}
"""

CONV = """
conv (float[1, 9, 7, 4] x, float[6, 3, 3, 2] w, float[6] b) => (float[1, h, v, 6] y)
{
    y = com.microsoft.NhwcConv <auto_pad = "NOTSET", dilations = [1, 1], group = 2,
        kernel_shape = [3, 3], pads = [1, 0, 1, 0], strides = [2, 1]> (x, w, b)
}
"""


def last(picture: torch.Tensor) -> np.ndarray:
    return picture.permute(0, 2, 3, 1).contiguous().numpy()


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float", 1e-6), ("float16", 2e-3)])
def test_a_group_norm(silu: bool, dtype: str, tolerance: float) -> None:
    torch.manual_seed(1)
    narrow = torch.float16 if dtype == "float16" else torch.float32
    x = (3 + 2 * torch.randn(2, 8, 6, 4)).to(narrow)
    gamma, beta = torch.randn(8), torch.randn(8)
    expected = functional.group_norm(x.float(), 4, gamma, beta, eps=0.01)
    expected = functional.silu(expected) if silu else expected
    model = graph(NORM.format(dtype=dtype, silu=int(silu)))
    (found,) = run(model, last(x), gamma.numpy(), beta.numpy())
    assert found.dtype == last(x).dtype
    np.testing.assert_allclose(found, last(expected), atol=tolerance * expected.abs().max().item())


def test_a_convolution() -> None:
    torch.manual_seed(1)
    x, w, b = torch.randn(1, 4, 9, 7), torch.randn(6, 2, 3, 3), torch.randn(6)
    expected = functional.conv2d(x, w, b, stride=(2, 1), padding=(1, 0), groups=2)
    (found,) = run(graph(CONV), last(x), last(w), b.numpy())
    np.testing.assert_allclose(found, last(expected), atol=1e-5)


SKIP_GROUP_NORM = """
norm ({dtype}[2, 6, 4, 8] x, float[8] gamma, float[8] beta, {dtype}[2, {h}, {w}, 8] skip,
      {dtype}[8] bias) => ({dtype}[2, 6, 4, 8] y, {dtype}[2, 6, 4, 8] total)
{{
    y, total = com.microsoft.SkipGroupNorm <activation = 1, channels_last = 1, epsilon = 0.01,
        groups = 4> (x, gamma, beta, skip{bias_input})
}}
"""

SKIP_LAYER_NORM = """
norm ({dtype}[2, 6, 8] x, {dtype}[2, 6, 8] skip, {dtype}[8] gamma, {dtype}[8] beta,
      {dtype}[8] bias) => ({dtype}[2, 6, 8] y, {dtype}[2, 6, 8] total)
{{
    y, mean, inverse, total = com.microsoft.SkipLayerNormalization <epsilon = 0.01>
        (x, skip, gamma, beta{bias_input})
}}
"""

GEGLU = """
geglu ({dtype}[2, 3, 8] x, {dtype}[8] bias) => ({dtype}[2, 3, 4] y)
{{
    y = com.microsoft.BiasSplitGelu (x, bias)
}}
"""

BIAS_ADD = """
sum (float[2, 3, 8] x, float[8] bias, float[2, 3, 8] skip) => (float[2, 3, 8] y)
{
    y = com.microsoft.BiasAdd (x, bias, skip)
}
"""

DTYPES = [("float", 1e-6), ("float16", 3e-3)]


def torch_dtype(dtype: str) -> torch.dtype:
    return torch.float16 if dtype == "float16" else torch.float32


@pytest.mark.parametrize(("height", "width"), [(1, 1), (6, 4)], ids=["vectors", "a picture"])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_a_group_norm_of_a_sum(
    height: int, width: int, biased: bool, dtype: str, tolerance: float
) -> None:
    torch.manual_seed(1)
    x, skip = torch.randn(2, 8, 6, 4), torch.randn(2, 8, height, width)
    x, skip = x.to(torch_dtype(dtype)), skip.to(torch_dtype(dtype))
    gamma, beta, bias = torch.randn(8), torch.randn(8), torch.randn(8).to(x.dtype)
    total = x + skip + (bias[None, :, None, None] if biased else 0)
    expected = functional.silu(functional.group_norm(total.float(), 4, gamma, beta, eps=0.01))
    text = SKIP_GROUP_NORM.format(
        dtype=dtype, h=height, w=width, bias_input=", bias" if biased else ""
    )
    inputs = last(x), gamma.numpy(), beta.numpy(), last(skip), bias.numpy()
    found, summed = run(graph(text), *inputs)
    assert found.dtype == last(x).dtype
    np.testing.assert_allclose(found, last(expected), atol=tolerance * expected.abs().max().item())
    np.testing.assert_allclose(summed, last(total), atol=tolerance * total.abs().max().item())


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_a_layer_norm_of_a_sum(biased: bool, dtype: str, tolerance: float) -> None:
    torch.manual_seed(1)
    narrow = torch_dtype(dtype)
    x, skip = torch.randn(2, 6, 8).to(narrow), torch.randn(2, 6, 8).to(narrow)
    gamma, beta, bias = (torch.randn(8).to(narrow) for _ in range(3))
    total = x + skip + (bias if biased else 0)
    expected = functional.layer_norm(total.float(), (8,), gamma.float(), beta.float(), eps=0.01)
    text = SKIP_LAYER_NORM.format(dtype=dtype, bias_input=", bias" if biased else "")
    found, summed = run(graph(text), *(each.numpy() for each in (x, skip, gamma, beta, bias)))
    assert found.dtype == x.numpy().dtype
    np.testing.assert_allclose(found, expected, atol=tolerance * expected.abs().max().item())
    np.testing.assert_allclose(summed, total, atol=tolerance * total.abs().max().item())


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_a_geglu_gates_its_first_half_by_the_exact_gelu_of_its_second(
    dtype: str, tolerance: float
) -> None:
    torch.manual_seed(1)
    x, bias = torch.randn(2, 3, 8).to(torch_dtype(dtype)), torch.randn(8).to(torch_dtype(dtype))
    hidden, gate = (x + bias).float().chunk(2, dim=-1)
    expected = hidden * functional.gelu(gate)
    (found,) = run(graph(GEGLU.format(dtype=dtype)), x.numpy(), bias.numpy())
    assert found.dtype == x.numpy().dtype
    np.testing.assert_allclose(found, expected, atol=tolerance * expected.abs().max().item())


def test_a_sum_with_a_bias() -> None:
    torch.manual_seed(1)
    x, bias, skip = torch.randn(2, 3, 8), torch.randn(8), torch.randn(2, 3, 8)
    (found,) = run(graph(BIAS_ADD), x.numpy(), bias.numpy(), skip.numpy())
    np.testing.assert_allclose(found, x + bias + skip, atol=1e-6)

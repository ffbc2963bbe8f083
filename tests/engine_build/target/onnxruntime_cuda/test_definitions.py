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

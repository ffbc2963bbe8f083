"""Which group norms become CUDA's operator, and which it cannot compute."""

import numpy as np
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.group_norm import fuse_group_norms
from engine_build.target.onnxruntime_cuda.layout import put_channels_last
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

NORM = """
norm ({dtype}[N, {channels}, h, w] x, float[{groups}] ones, float[{groups}] zeros,
      float[{channels}] gamma, float[{channels}] beta, int64[3] split, int64[2] axes)
    => ({dtype}[N, {channels}, h, w] y)
<{dtype}[N, {channels}, h, w] narrow, float[N, {channels}, h, w] shifted,
 float[N, {channels}, h, w] gated>
{{
    wide = Cast <to = 1> (x)
    grouped = Reshape (wide, split)
    normal = InstanceNormalization <epsilon = 0.001> (grouped, ones, zeros)
    shape = Shape (x)
    back = Reshape (normal, shape)
    scale = Unsqueeze (gamma, axes)
    shift = Unsqueeze (beta, axes)
    scaled = Mul (back, scale)
    shifted = Add (scaled, shift)
    {tail}
    y = Neg (narrow)
}}
"""
CODES = {"float16": 10, "bfloat16": 16}


def norm(
    dtype: str = "float16",
    channels: int = 8,
    groups: int = 4,
    silu: bool = True,
    scale: float = 1.0,
):
    code = CODES[dtype]
    silu_tail = f"""gate = Sigmoid (shifted)
    gated = Mul (shifted, gate)
    narrow = Cast <to = {code}> (gated)"""
    tail = silu_tail if silu else f"narrow = Cast <to = {code}> (shifted)"
    random = np.random.default_rng(1)
    return graph(
        NORM.format(dtype=dtype, channels=channels, groups=groups, tail=tail),
        ones=np.full(groups, scale, np.float32),
        zeros=np.zeros(groups, np.float32),
        gamma=random.normal(size=channels).astype(np.float32),
        beta=random.normal(size=channels).astype(np.float32),
        split=np.array([0, groups, -1]),
        axes=np.array([1, 2]),
    )


@pytest.mark.parametrize("silu", [False, True])
def test_a_norm_in_16_bits_becomes_one_operator_that_computes_the_same(silu: bool) -> None:
    model = norm(silu=silu)
    x = np.random.default_rng(2).normal(3, 2, size=(2, 8, 5, 7)).astype(np.float16)
    (expected,) = run(model, x)
    fuse_group_norms(model)
    assert operators(model).count("GroupNorm") == 1
    put_channels_last(model)
    passes.RemoveUnusedNodesPass()(model)
    (found,) = run(model, x)
    np.testing.assert_allclose(found, expected, atol=4e-3)


@pytest.mark.parametrize(
    "model",
    [norm(dtype="bfloat16"), norm(channels=12), norm(channels=2048, groups=2), norm(scale=2.0)],
    ids=["bf16", "an odd number of channels", "too many channels", "groups that are scaled"],
)
def test_what_the_kernel_does_not_take_stays(model) -> None:
    fuse_group_norms(model)
    assert "GroupNorm" not in operators(model)

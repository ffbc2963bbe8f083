"""Layer norms of 16-bit values without Casts, and where Casts have to stay."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.layer_norm import narrow_layer_norms
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

NORM = """
norm ({dtype}[B, S, 8] x, {stored}[8] gamma, {stored}[8] beta) => ({dtype}[B, S, 8] y{more})
<float[B, S, 8] wide, float[8] scale, float[8] shift, float[B, S, 8] normed,
 {dtype}[B, S, 8] narrow>
{{
    wide = Cast <to = 1> (x)
    scale = Cast <to = 1> (gamma)
    shift = Cast <to = 1> (beta)
    normed = LayerNormalization <axis = -1, epsilon = 0.001> (wide, scale, shift)
    narrow = Cast <to = {code}> (normed)
    y = Neg (narrow)
    {tail}
}}
"""
RANDOM = np.random.default_rng(1)
GAMMA, BETA = RANDOM.normal(size=(2, 8))


def norm(dtype: str = "float16", stored: type = np.float16, more: str = "", tail: str = ""):
    text = NORM.format(
        dtype=dtype,
        code={"float16": 10, "bfloat16": 16}[dtype],
        stored="float16" if stored is np.float16 else "float",
        more=more,
        tail=tail,
    )
    return graph(text, gamma=GAMMA.astype(stored), beta=BETA.astype(stored))


@pytest.mark.parametrize("stored", [np.float16, np.float32])
def test_a_norm_reads_and_writes_16_bits_and_its_sums_stay_in_fp32(stored: type) -> None:
    model = norm(stored=stored)
    # Sums of squares that fp16 cannot hold.
    x = (RANDOM.normal(size=(2, 5, 8)) * 900).astype(np.float16)
    (expected,) = run(model, x)
    narrow_layer_norms(model)
    passes.RemoveUnusedNodesPass()(model)
    (made,) = (node for node in model.graph if node.op_type == "LayerNormalization")
    assert {value.dtype for value in (*made.inputs, *made.outputs)} == {ir.DataType.FLOAT16}
    assert operators(model).count("Cast") == (0 if stored is np.float16 else 2)
    np.testing.assert_allclose(run(model, x)[0], expected, atol=4e-3)


def test_weights_keep_their_names_and_dtypes() -> None:
    model = norm(stored=np.float32)
    narrow_layer_norms(model)
    passes.RemoveUnusedNodesPass()(model)
    assert {name: value.dtype for name, value in model.graph.initializers.items()} == {
        "gamma": ir.DataType.FLOAT,
        "beta": ir.DataType.FLOAT,
    }


def test_bf16_is_narrowed_to_bf16() -> None:
    model = norm(dtype="bfloat16")
    narrow_layer_norms(model)
    (made,) = (node for node in model.graph if node.op_type == "LayerNormalization")
    assert {value.dtype for value in (*made.inputs, *made.outputs)} == {ir.DataType.BFLOAT16}


def test_a_norm_that_is_read_in_fp32_too_stays_in_fp32() -> None:
    model = norm(more=", float[B, S, 8] z", tail="z = Neg (normed)")
    narrow_layer_norms(model)
    (made,) = (node for node in model.graph if node.op_type == "LayerNormalization")
    assert made.outputs[0].dtype == ir.DataType.FLOAT

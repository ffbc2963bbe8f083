"""Biases of queries, keys and values inside of an attention."""

import numpy as np
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.attention_biases import fuse_attention_biases
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

ATTENTION = """
attention (float[B, S, 8] x, float[B, 1, S, S] mask, float[8, 8] q, float[8, 8] k, float[8, 8] v,
           float[8] qb, float[8] kb, float[8] vb) => (float[B, S, 8] y)
<float[B, S, 8] q0, float[B, S, 8] k0, float[B, S, 8] v0, float[B, S, 8] q1, float[B, S, 8] k1,
 float[B, S, 8] v1, float[B, S, 8] attended>
{{
    q0 = MatMul (x, q)
    k0 = MatMul (x, k)
    v0 = MatMul (x, v)
    q1 = Add (q0, qb)
    k1 = {key}
    v1 = Add (v0, vb)
    attended = com.microsoft.MultiHeadAttention <num_heads = 2> (q1, k1, v1{mask})
    y = Neg (attended)
}}
"""
RANDOM = np.random.default_rng(1)


def attention(key: str = "Add (k0, kb)", mask: str = ", , , mask"):
    def numbers(*shape: int) -> np.ndarray:
        return RANDOM.normal(size=shape).astype(np.float32)

    weights = {name: numbers(8, 8) for name in "qkv"}
    biases = {f"{name}b": numbers(8) for name in "qkv"}
    return graph(ATTENTION.format(key=key, mask=mask), **weights, **biases)


@pytest.mark.parametrize("mask", ["", ", , , mask"], ids=["no mask", "a mask"])
def test_three_biases_become_one_input(mask: str) -> None:
    model = attention(mask=mask)
    inputs = (
        RANDOM.normal(size=(2, 5, 8)).astype(np.float32),
        RANDOM.normal(size=(2, 1, 5, 5)).astype(np.float32),
    )
    (expected,) = run(model, *inputs)
    fuse_attention_biases(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == [*["MatMul"] * 3, "Concat", "MultiHeadAttention", "Neg"]
    np.testing.assert_allclose(run(model, *inputs)[0], expected, atol=1e-6)


def test_an_attention_with_a_key_without_bias_stays() -> None:
    model = attention(key="Identity (k0)")
    before = operators(model)
    fuse_attention_biases(model)
    assert operators(model) == before

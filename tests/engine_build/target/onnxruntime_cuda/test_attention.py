"""Attention as one operator: masks that hide each row's last keys become numbers of keys, and a
bias feeds many attentions."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from engine_build.target.onnxruntime_cuda.attention import fuse_attention
from engine_build.target.onnxruntime_cuda.compiler import compile_role
from runtime.package.manifest import load_package
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

HIDES = -3.4028234663852886e38

# As PyTorch's exporter writes `scaled_dot_product_attention` with the mask of
# `zimage_denoiser.visible`.
ATTENTION = """
    agraph (
        float[B, 2, S, 4] q, float[B, 2, S, 4] k, float[B, 2, S, 4] v, int64[B] seen,
        int64 first, int64 step, int64[1] ones, int64[1] twos, float shown, float hidden
    ) => (float[B, 2, S, 4] y) {
        length = Shape <start = 2, end = 3> (k)
        number = Squeeze (length)
        limit = Add (number, first)
        places = Range (first, limit, step)
        column = Unsqueeze (seen, ones)
        less = Less (places, column)
        by_head = Unsqueeze (less, ones)
        mask = Unsqueeze (by_head, twos)
        turned = Transpose <perm = [0, 1, 3, 2]> (k)
        scale = Constant <value_float = 0.70710678> ()
        query = Mul (q, scale)
        key = Mul (turned, scale)
        logits = MatMul (query, key)
        bias = Where (mask, shown, hidden)
        masked = Add (logits, bias)
        shares = Softmax <axis = -1> (masked)
        odd = IsNaN (shares)
        none = Constant <value_float = 0.0> ()
        steady = Where (odd, none, shares)
        y = MatMul (steady, v)
    }
"""

GENERATOR = np.random.default_rng(5)
QUERY, KEY, VALUE = GENERATOR.normal(size=(3, 2, 2, 6, 4)).astype(np.float32)
SEEN = np.array([4, 6], np.int64)


def attention(hidden: float = HIDES, shown: float = 0.0, first: int = 0) -> ir.Model:
    return graph(
        ATTENTION,
        first=np.array(first, np.int64),
        step=np.array(1, np.int64),
        ones=np.array([1], np.int64),
        twos=np.array([2], np.int64),
        shown=np.array(shown, np.float32),
        hidden=np.array(hidden, np.float32),
    )


def fused(model: ir.Model) -> ir.Node:
    fuse_attention(model)
    (node,) = (each for each in model.graph if each.op_type == "MultiHeadAttention")
    return node


def test_keys_that_are_hidden_last_are_counted() -> None:
    plain, model = attention(), attention()
    node = fused(model)
    keys, bias = node.inputs[4], node.inputs[5]
    assert keys is not None
    assert (keys.dtype, bias) == (ir.DataType.INT32, None)
    (expected,) = run(plain, QUERY, KEY, VALUE, SEEN)
    (found,) = run(model, QUERY, KEY, VALUE, SEEN)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_hidden_keys_matter_to_none_and_the_others_do() -> None:
    model = attention()
    fuse_attention(model)
    (found,) = run(model, QUERY, KEY, VALUE, SEEN)
    for changed, same in ((4, True), (3, False)):
        key, value = KEY.copy(), VALUE.copy()
        key[0, :, changed] += 5
        value[0, :, changed] += 5
        (again,) = run(model, QUERY, key, value, SEEN)
        assert np.array_equal(found, again) == same


@pytest.mark.parametrize(
    "other",
    [
        # Seen less than others, and not hidden: as Chroma's padding.
        {"hidden": -1.0},
        {"shown": 1.0},
        # Numbers that count one more than is seen.
        {"first": 1},
    ],
)
def test_any_other_mask_stays_a_bias(other: dict[str, Any]) -> None:
    plain, model = attention(**other), attention(**other)
    node = fused(model)
    assert node.inputs[4] is None
    assert node.inputs[5] is not None
    (expected,) = run(plain, QUERY, KEY, VALUE, SEEN)
    (found,) = run(model, QUERY, KEY, VALUE, SEEN)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


BIASED = """
    agraph (
        float[B, 2, S, 4] q, float[B, 2, S, 4] k, float[B, 2, S, 4] v, float[B, 1, S, S] bias
    ) => (float[B, 2, S, 4] y) {
        turned = Transpose <perm = [0, 1, 3, 2]> (k)
        scale = Constant <value_float = 0.5> ()
        logits = MatMul (q, turned)
        scaled = Mul (logits, scale)
        masked = Add (scaled, bias)
        shares = Softmax <axis = -1> (masked)
        y = MatMul (shares, v)
    }
"""


def test_a_bias_with_a_row_for_each_query_is_not_widened() -> None:
    plain, model = graph(BIASED), graph(BIASED)
    fused(model)
    ir.passes.common.RemoveUnusedNodesPass()(model)
    assert "Expand" not in operators(model)
    bias = GENERATOR.normal(size=(2, 1, 6, 6)).astype(np.float32)
    (expected,) = run(plain, QUERY, KEY, VALUE, bias)
    (found,) = run(model, QUERY, KEY, VALUE, bias)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_one_bias_feeds_every_attention_of_chroma(
    tiny_chroma_package: Path, tmp_path: Path
) -> None:
    package = load_package(tiny_chroma_package, "tiny_chroma")
    compiled = compile_role(package, "denoiser", "bf16", tmp_path)
    attentions = [
        node for node in ir.load(compiled.path).graph if node.op_type == "MultiHeadAttention"
    ]
    assert len(attentions) == 4
    assert len({node.inputs[5] for node in attentions}) == 1


def test_the_attentions_of_z_image_count_their_keys(
    tiny_zimage_package: Path, tmp_path: Path
) -> None:
    package = load_package(tiny_zimage_package, "tiny_zimage")
    compiled = compile_role(package, "denoiser", "bf16", tmp_path)
    masks = [
        node.inputs[4:]
        for path in tmp_path.glob("*.onnx")
        for node in ir.load(path).graph
        if node.op_type == "MultiHeadAttention"
    ]
    assert compiled.fused["MultiHeadAttention"] == len(masks) == 4
    # The noise refiner sees all of its picture.
    assert sorted(len(mask) > 0 and mask[0] is not None for mask in masks) == [False, *[True] * 3]
    assert all(value is None for mask in masks for value in mask[1:])

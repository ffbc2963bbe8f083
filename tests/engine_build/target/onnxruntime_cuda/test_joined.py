"""Products of one input as one product."""

import numpy as np
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda import joined
from engine_build.target.onnxruntime_cuda.joined import join_products
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

PRODUCTS = """
products (float[N, 4] x, float[3, 4] weight, float[3] bias, float[5, 4] weight2, float[5] bias2)
    => (float[N, 3] y, float[N, 5] z)
<float[N, 3] one, float[N, 5] two>
{{
    one = Gemm <transB = 1{more}> (x, weight, bias)
    two = Gemm <transB = 1> ({other}, weight2, bias2)
    y = Neg (one)
    z = Neg (two)
}}
"""
RANDOM = np.random.default_rng(1)


def products(more: str = "", other: str = "x"):
    def numbers(*shape: int) -> np.ndarray:
        return RANDOM.normal(size=shape).astype(np.float32)

    return graph(
        PRODUCTS.format(more=more, other=other),
        weight=numbers(3, 4),
        bias=numbers(3),
        weight2=numbers(5, 4),
        bias2=numbers(5),
    )


def test_products_of_one_input_become_one_and_weights_keep_their_names() -> None:
    model = products()
    names = set(model.graph.initializers)
    x = RANDOM.normal(size=(2, 4)).astype(np.float32)
    expected = run(model, x)
    join_products(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["Concat", "Concat", "Gemm", "Split", "Neg", "Neg"]
    assert names < set(model.graph.initializers)
    for found, wanted in zip(run(model, x), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_scaled_product_stays_by_itself() -> None:
    model = products(more=", alpha = 2.0")
    join_products(model)
    assert operators(model).count("Gemm") == 2


def test_matrices_too_large_to_be_copied_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "_LARGEST", 3 * 4 + 5 * 4 - 1)
    model = products()
    join_products(model)
    assert operators(model).count("Gemm") == 2


def test_a_bias_of_one_number_for_all_is_not_joined() -> None:
    text = PRODUCTS.format(more="", other="x").replace("float[5] bias2", "float[1] bias2")
    model = graph(
        text,
        weight=np.ones((3, 4), np.float32),
        bias=np.ones(3, np.float32),
        weight2=np.ones((5, 4), np.float32),
        bias2=np.ones(1, np.float32),
    )
    join_products(model)
    assert operators(model).count("Gemm") == 2

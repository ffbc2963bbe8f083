"""Residual sums with gates, and the norms behind them."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.gated_sums import fuse_gated_sums
from engine_build.target.onnxruntime_cuda.modulated_norms import fuse_modulations, fuse_norms
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, rms_norm, run

NORM = "normed = LayerNormalization <axis = -1, epsilon = 0.01> (total, ones)"
BLOCK = """
block (float[R, S, 4] x, float[R, S, 6] residual, float[R, 1, 6] gate, float[R, 1, 6] shift,
       float[4, 6] matrix, float[6] bias, float[6] ones) => (float[R, S, 6] y, float[R, S, 6] z)
<float[R, S, 6] product, float[R, S, 6] shifted, float[R, S, 6] gated, float[R, S, 6] total,
 float[R, S, 6] normed, float[R, 1, 6] opened, float[R, 1, 6] own, float[R, S, 6] moved>
{{
    product = MatMul (x, matrix)
    {branch}
    total = Add ({summands})
    {norm}
    {answer}
    z = Neg (total)
}}
"""
GATED = "shifted = Add (product, bias)\ngated = Mul (gate, shifted)"
RANDOM = np.random.default_rng(4)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def block(
    branch: str = GATED,
    summands: str = "residual, gated",
    norm: str = NORM,
    answer: str = "moved = Add (normed, shift)\ny = Neg (moved)",
) -> ir.Model:
    text = BLOCK.format(branch=branch, summands=summands, norm=norm, answer=answer)
    constants = {"matrix": numbers(4, 6), "bias": numbers(6), "ones": np.ones(6, np.float32)}
    model = graph(text, **constants)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return model


def inputs() -> tuple[np.ndarray, ...]:
    return numbers(2, 3, 4), numbers(2, 3, 6), numbers(2, 1, 6), numbers(2, 1, 6)


def fused(model: ir.Model) -> list[str]:
    for fuse in (fuse_norms, fuse_modulations, fuse_gated_sums):
        fuse(model)
        passes.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    return sorted(set(operators(model)) - {"MatMul", "Neg"})


def assert_unchanged(model: ir.Model, left: list[str]) -> None:
    given = inputs()
    expected = run(model, *given)
    assert fused(model) == left
    for found, wanted in zip(run(model, *given), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("branch", "summands"),
    [
        (GATED, "residual, gated"),
        (GATED, "gated, residual"),
        ("gated = Mul (product, gate)", "residual, gated"),
        ("opened = Tanh (gate)\ngated = Mul (opened, product)", "residual, gated"),
        ("gated = Add (product, bias)", "residual, gated"),
        ("gated = Identity (product)", "product, residual"),
    ],
    ids=["all", "the other way round", "no bias", "tanh", "no gate", "a product alone"],
)
def test_a_branch_and_the_norm_behind_it_become_one_operator(branch: str, summands: str) -> None:
    assert_unchanged(block(branch, summands), ["GatedSumNorm"])


def test_a_normed_branch_keeps_its_weight_and_epsilon() -> None:
    rms = rms_norm("product", "bias", 0.1)
    rms += "opened = Tanh (gate)\ngated = Mul (opened, product_normed)"
    model = block(rms)
    given = inputs()
    passes.ShapeInferencePass()(model)
    expected = run(model, *given)
    assert fused(model) == ["GatedSumNorm"]
    assert operators(model).count("GatedSumNorm") == 1
    for found, wanted in zip(run(model, *given), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_gated_sum_needs_no_norm() -> None:
    assert_unchanged(block(norm="", answer="y = Identity (total)"), ["GatedSumNorm", "Identity"])


def test_an_ungated_sum_without_a_norm_of_ours_stays() -> None:
    model = block("gated = Add (product, bias)", norm="", answer="y = Identity (total)")
    assert_unchanged(model, ["Add", "Identity"])


def test_a_gate_for_each_token_is_none() -> None:
    """Numbers that are no modulation of whole rows."""
    assert_unchanged(block("gated = Mul (product, residual)"), ["Add", "GatedSumNorm", "Mul"])


def test_a_norm_whose_shift_is_made_of_the_sum_stays_apart() -> None:
    """As one operator, its shift would be an input that its own output decides."""
    own = """
        middle = Constant <value_ints = [1]> ()
        own = ReduceMean <keepdims = 1> (total, middle)
        moved = Add (normed, own)
        y = Neg (moved)
    """
    model = block(answer=own)
    given = inputs()
    expected = run(model, *given)
    fused(model)
    assert operators(model).count("GatedSumNorm") == 2
    for found, wanted in zip(run(model, *given), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_branch_that_another_reads_is_computed_for_both() -> None:
    model = block(answer="y = Add (normed, gated)")
    assert_unchanged(model, ["Add", "GatedSumNorm", "Mul"])


def test_an_answer_keeps_its_name() -> None:
    model = block(
        norm="y = LayerNormalization <axis = -1, epsilon = 0.01> (total, ones)", answer=""
    )
    assert_unchanged(model, ["GatedSumNorm"])
    assert [each.name for each in model.graph.outputs] == ["y", "z"]


def test_a_stream_that_16_bits_cannot_hold_stays_in_fp32() -> None:
    text = """
    block (float[R, S, 6] residual, float16[R, S, 6] source, float16[R, 1, 6] gate,
           float16[6, 6] matrix) => (float[R, S, 6] y)
    <float16[R, S, 6] product, float16[R, S, 6] gated, float[R, S, 6] wide, float[R, S, 6] total>
    {
        product = MatMul (source, matrix)
        gated = Mul (gate, product)
        wide = Cast <to = 1> (gated)
        total = Add (residual, wide)
        y = Neg (total)
    }
    """
    half = [numbers(*shape).astype(np.float16) for shape in ((2, 3, 6), (2, 1, 6))]
    model = graph(text, matrix=numbers(6, 6).astype(np.float16))
    given = 1e6 * numbers(2, 3, 6), *half
    expected = run(model, *given)
    assert fused(model) == ["Cast", "GatedSumNorm"]
    np.testing.assert_allclose(run(model, *given), expected, rtol=1e-5, atol=1.0)

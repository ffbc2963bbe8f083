"""Norms of rows and the modulations behind them."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.modulated_norms import fuse_modulations, fuse_norms
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

LAYER = "normed = LayerNormalization <axis = -1, epsilon = 0.01> (x, ones)"
RMS = """
    two = Constant <value_float = 2.0> ()
    least = Constant <value_float = 0.01> ()
    last = Constant <value_ints = [-1]> ()
    squared = Pow (x, two)
    mean = ReduceMean <keepdims = 1> (squared, last)
    steady = Add (mean, least)
    root = Sqrt (steady)
    inverse = Reciprocal (root)
    scaled = Mul ({source}, inverse)
    normed = Mul (weight, scaled)
"""
MODULATED = """
    one = Constant <value_float = 1.0> ()
    factor = Add ({scale}, one)
    stretched = Mul (normed, factor)
    y = Add (stretched, shift)
"""
BLOCK = """
block (float[R, S, 6] x, float[R, {tokens}, 6] scale, float[R, {tokens}, 6] shift,
       float[6] ones, float[6] weight) => (float[R, S, 6] y)
<float[R, S, 6] normed, float[R, S, 6] stretched, float[R, {tokens}, 6] factor,
 float[R, S, 6] squared, float[R, S, 1] mean, float[R, S, 1] steady, float[R, S, 1] root,
 float[R, S, 1] inverse, float[R, S, 6] scaled>
{{
    {norm}
    {rest}
}}
"""
RANDOM = np.random.default_rng(3)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def block(
    norm: str = LAYER,
    rest: str = MODULATED,
    scale: str = "scale",
    tokens: str = "1",
    ones: np.ndarray | None = None,
) -> ir.Model:
    text = BLOCK.format(norm=norm.format(source="x"), rest=rest.format(scale=scale), tokens=tokens)
    kept = np.ones(6, np.float32) if ones is None else ones
    model = graph(text, ones=kept, weight=numbers(6))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return model


def fused(model: ir.Model) -> ir.Model:
    fuse_norms(model)
    passes.RemoveUnusedNodesPass()(model)
    fuse_modulations(model)
    passes.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    return model


@pytest.mark.parametrize("norm", [LAYER, RMS], ids=["layer", "rms"])
def test_a_norm_takes_its_modulations(norm: str) -> None:
    model, inputs = block(norm), (numbers(2, 3, 6), numbers(2, 1, 6), numbers(2, 1, 6))
    expected = run(model, *inputs)
    assert operators(fused(model)) == ["GatedSumNorm"]
    np.testing.assert_allclose(run(model, *inputs), expected, atol=1e-5)


def test_a_scale_without_a_shift_and_a_shift_without_a_scale() -> None:
    alone = "one = Constant <value_float = 1.0> ()\nfactor = Add (one, scale)"
    for rest in (f"{alone}\ny = Mul (factor, normed)", "y = Add (shift, normed)"):
        model, inputs = block(rest=rest), (numbers(2, 3, 6), numbers(2, 1, 6), numbers(2, 1, 6))
        expected = run(model, *inputs)
        assert operators(fused(model)) == ["GatedSumNorm"]
        np.testing.assert_allclose(run(model, *inputs), expected, atol=1e-5)


def test_what_is_no_modulation_of_rows_stays() -> None:
    """Numbers for each token, and a factor that is not 1 and something."""
    inputs = numbers(2, 3, 6), numbers(2, 3, 6), numbers(2, 3, 6)
    model = block(tokens="S")
    expected = run(model, *inputs)
    assert operators(fused(model)) == ["GatedSumNorm", "Add", "Mul", "Add"]
    np.testing.assert_allclose(run(model, *inputs), expected, atol=1e-5)
    model = block(rest="y = Mul (normed, scale)")
    assert operators(fused(model)) == ["GatedSumNorm", "Mul"]


def test_a_scale_of_channels_alone_stays() -> None:
    text = """
    block (float[R, S, 6] x, float[6] scale, float[6] ones) => (float[R, S, 6] y)
    <float[R, S, 6] normed, float[6] risen, float[1, 1, 6] factor>
    {
        one = Constant <value_float = 1.0> ()
        front = Constant <value_ints = [0, 1]> ()
        normed = LayerNormalization <axis = -1> (x, ones)
        risen = Add (scale, one)
        factor = Unsqueeze (risen, front)
        y = Mul (normed, factor)
    }
    """
    model, inputs = graph(text, ones=np.ones(6, np.float32)), (numbers(2, 3, 6), numbers(6))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    expected = run(model, *inputs)
    fused(model)
    np.testing.assert_allclose(run(model, *inputs), expected, atol=1e-5)


def test_a_norm_whose_epsilon_adds_an_axis_stays() -> None:
    steady = "least = Constant <value = float[1, 1, 1, 1] {{0.01}}> ()"
    norm = RMS.replace("least = Constant <value_float = 0.01> ()", steady)
    text = BLOCK.format(norm=norm.format(source="x"), rest="y = Neg (normed)", tokens="1")
    text = text[: text.index("<float[R, S, 6] normed")] + text[text.index("{\n") :]
    model = graph(text.replace("=> (float[R", "=> (float[1, R"), weight=numbers(6))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.ShapeInferencePass()(model)
    assert "GatedSumNorm" not in operators(fused(model))


def test_a_layer_norm_with_a_weight_of_its_own_stays() -> None:
    model = block(ones=numbers(6))
    assert "LayerNormalization" in operators(fused(model))


def test_a_norm_of_another_value_is_none() -> None:
    model = block(RMS.replace("{source}", "squared"))
    assert "GatedSumNorm" not in operators(fused(model))


def test_a_norm_that_something_else_reads_keeps_its_modulations_outside() -> None:
    model = block(
        rest=MODULATED.replace("y = Add (stretched, shift)", "y = Add (stretched, normed)")
    )
    inputs = numbers(2, 3, 6), numbers(2, 1, 6), numbers(2, 1, 6)
    expected = run(model, *inputs)
    assert sorted(operators(fused(model))) == ["Add", "Add", "GatedSumNorm", "Mul"]
    np.testing.assert_allclose(run(model, *inputs), expected, atol=1e-5)


def test_rows_that_16_bits_cannot_hold_are_normed_in_fp32() -> None:
    norm = RMS.format(source="x") + "y = Cast <to = 10> (normed)"
    text = BLOCK.format(norm=norm, rest="", tokens="1").replace("=> (float[", "=> (float16[")
    model = graph(text, weight=numbers(6), ones=np.ones(6, np.float32))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    inputs = 1e6 * numbers(2, 3, 6), numbers(2, 1, 6), numbers(2, 1, 6)
    expected = run(model, *inputs)
    assert operators(fused(model)) == ["GatedSumNorm", "Cast"]
    np.testing.assert_allclose(run(model, *inputs), expected, atol=1e-2)

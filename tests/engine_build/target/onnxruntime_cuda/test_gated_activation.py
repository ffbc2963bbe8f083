"""The middle of feed-forwards, as the families' graphs write it."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.gated_activation import fuse_gated_activations
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

TEXT = """
middle (float[R, S, 4] x, float[R, S, 3] before, float[4, 6] matrix, float[4, 6] matrix2,
        float[6] bias) => (float[R, S, {width}] y)
{{
    half = Constant <value_float = 0.5> ()
    three = Constant <value_float = 3.0> ()
    small = Constant <value_float = 0.044715> ()
    root = Constant <value_float = 0.7978846> ()
    near = Constant <value_float = 0.8> ()
    one = Constant <value_float = 1.0> ()
    product = MatMul (x, matrix)
    {body}
}}
"""
SILU = "opened = Sigmoid (product)\nmade = Mul (product, opened)"
GELU = 'shifted = Add (product, bias)\nmade = Gelu <approximate = "tanh"> (shifted)'
WRITTEN = """
    halved = Mul (half, product)
    cubed = Pow (product, three)
    scaled = Mul (small, cubed)
    summed = Add (product, scaled)
    stretched = Mul (root, summed)
    bent = Tanh (stretched)
    risen = Add (one, bent)
    made = Mul (halved, risen)
"""
GATED = "other = MatMul (x, matrix2)\ny = Mul (made, other)"
RANDOM = np.random.default_rng(6)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def middle(body: str, width: int = 6) -> ir.Model:
    text = TEXT.format(body=body, width=width)
    model = graph(text, matrix=numbers(4, 6), matrix2=numbers(4, 6), bias=numbers(6))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.ShapeInferencePass()(model)
    return model


def assert_left(model: ir.Model, left: list[str]) -> None:
    given = [numbers(2, 3, 4), numbers(2, 3, 3)]
    expected = run(model, *given)
    fuse_gated_activations(model)
    passes.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    assert sorted(set(operators(model)) - {"MatMul"}) == left
    np.testing.assert_allclose(run(model, *given)[0], expected[0], atol=1e-5)


@pytest.mark.parametrize("kind", [SILU, GELU, WRITTEN], ids=["silu", "gelu", "written out"])
@pytest.mark.parametrize("rest", [GATED, "y = Neg (made)"], ids=["gated", "alone"])
def test_an_activation_and_its_value_become_one_operator(kind: str, rest: str) -> None:
    left = ["GatedActivation"] if rest == GATED else ["GatedActivation", "Neg"]
    assert_left(middle(f"{kind}\n{rest}"), left)


def test_what_comes_before_an_activation_is_joined_by_it() -> None:
    joined = f"{GELU}\nall = Concat <axis = -1> (before, made)\ny = Neg (all)"
    assert_left(middle(joined, 9), ["GatedActivation", "Neg"])


def test_what_comes_behind_is_joined_by_a_node_of_its_own() -> None:
    joined = f"{GELU}\nall = Concat <axis = -1> (made, before)\ny = Neg (all)"
    assert_left(middle(joined, 9), ["Concat", "GatedActivation", "Neg"])


def test_a_product_that_another_node_reads_stays() -> None:
    assert_left(middle(f"{SILU}\ny = Add (made, product)"), ["Add", "Mul", "Sigmoid"])


def test_an_activation_that_is_read_twice_keeps_its_value_outside() -> None:
    model = middle(f"{SILU}\nother = MatMul (x, matrix2)\ng = Mul (made, other)\ny = Add (g, made)")
    assert_left(model, ["Add", "GatedActivation", "Mul"])


@pytest.mark.parametrize(
    "wrong",
    [
        WRITTEN.replace("root,", "near,"),
        WRITTEN.replace("Mul (root,", "Mul (half,"),
        WRITTEN.replace("Pow (product, three)", "Pow (product, one)"),
        WRITTEN.replace("Add (one, bent)", "Add (three, bent)"),
        SILU.replace("Sigmoid (product)", "Tanh (product)"),
    ],
)
def test_another_function_stays(wrong: str) -> None:
    model = middle(f"{wrong}\ny = Neg (made)")
    before = sorted(set(operators(model)) - {"MatMul"})
    assert_left(model, before)


def test_a_value_that_16_bits_cannot_hold_stays_outside() -> None:
    text = """
    middle (float16[R, S, 4] x, float[R, S, 6] value, float16[4, 6] matrix) => (float[R, S, 6] y)
    <float16[R, S, 6] product, float16[R, S, 6] opened, float16[R, S, 6] made,
     float[R, S, 6] wide>
    {
        product = MatMul (x, matrix)
        opened = Sigmoid (product)
        made = Mul (product, opened)
        wide = Cast <to = 1> (made)
        y = Mul (wide, value)
    }
    """
    model = graph(text, matrix=numbers(4, 6).astype(np.float16))
    given = numbers(2, 3, 4).astype(np.float16), 1e6 * numbers(2, 3, 6)
    expected = run(model, *given)
    fuse_gated_activations(model)
    passes.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    assert operators(model) == ["MatMul", "GatedActivation", "Cast", "Mul"]
    np.testing.assert_allclose(run(model, *given), expected, rtol=2e-2, atol=1e3)

"""Nodes that change no number, and ones like them that do."""

import numpy as np
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.identities import (
    remove_identities,
    share_equal_nodes,
)
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

HEADS = """
heads (float[B, S, 6] x, int64[4] split, int64[3] joined) => (float[B, S, 6] y)
<float[B, S, 3, 2] a, float[B, 3, S, 2] b, float[B, S, 3, 2] c, float[B, S, 6] d>
{
    a = Reshape (x, split)
    b = Transpose <perm = [0, 2, 1, 3]> (a)
    c = Transpose <perm = [0, 2, 1, 3]> (b)
    d = Reshape (c, joined)
    y = Neg (d)
}
"""

SCALED = """
scaled (float[B, 3] x, float{shape} one) => (float[B, 3] y)
<float[B, 3] scaled>
{{
    scaled = {operator} (x, one)
    y = Neg (scaled)
}}
"""


def test_heads_that_are_split_off_and_put_back_are_left_together() -> None:
    model = graph(HEADS, split=np.array([0, 0, 3, 2]), joined=np.array([0, 0, 6]))
    x = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(np.float32)
    (expected,) = run(model, x)
    remove_identities(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["Neg"]
    np.testing.assert_array_equal(run(model, x)[0], expected)


@pytest.mark.parametrize("operator", ["Div", "Mul"])
def test_a_scale_of_one_goes(operator: str) -> None:
    text = SCALED.format(operator=operator, shape="")
    model = graph(text, one=np.array(1, np.float32))
    remove_identities(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["Neg"]


@pytest.mark.parametrize(
    ("operator", "shape", "one"),
    [
        ("Div", "", np.array(2, np.float32)),
        ("Div", "[1, 1, 1]", np.ones((1, 1, 1), np.float32)),
        ("Mul", "[3]", np.ones(3, np.float32)),
    ],
    ids=["two", "a one that adds an axis", "several numbers"],
)
def test_any_other_scale_stays(operator: str, shape: str, one: np.ndarray) -> None:
    model = graph(SCALED.format(operator=operator, shape=shape), one=one)
    remove_identities(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == [operator, "Neg"]


def test_transposes_that_do_not_cancel_stay() -> None:
    text = HEADS.replace("float[B, S, 3, 2] c", "float[3, B, S, 2] c").replace(
        "c = Transpose <perm = [0, 2, 1, 3]>", "c = Transpose <perm = [1, 0, 2, 3]>"
    )
    model = graph(text, split=np.array([0, 0, 3, 2]), joined=np.array([0, 0, 6]))
    remove_identities(model)
    assert operators(model).count("Transpose") == 2


def test_a_shape_is_read_of_what_was_cast() -> None:
    model = graph("""
shape (float16[B, 3] x) => (int64[2] y)
<float[B, 3] wide>
{
    wide = Cast <to = 1> (x)
    y = Shape (wide)
}
""")
    remove_identities(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["Shape"]


SWAPPED = """
swapped (float[B, 3] x) => (float[B, 6] y)
<float[B, 3] sine, float[B, 3] cosine, float[B, 6] joined, float[B, 3] second, float[B, 3] first>
{{
    sine = Sin (x)
    cosine = Cos (x)
    joined = Concat <axis = 1> (sine, cosine)
    second = Slice (joined, {begin}, large, one, one)
    first = Slice (joined, zero, {begin}, one, one)
    y = Concat <axis = 1> (second, first)
}}
"""


@pytest.mark.parametrize(("begin", "swaps"), [("three", True), ("two", False)])
def test_joined_values_that_are_swapped_are_joined_the_other_way(begin: str, swaps: bool) -> None:
    numbers = {"zero": 0, "one": 1, "two": 2, "three": 3, "large": 2**62}
    header = ", ".join(f"int64[1] {name}" for name in numbers)
    text = SWAPPED.format(begin=begin).replace("(float[B, 3] x)", f"(float[B, 3] x, {header})", 1)
    model = graph(text, **{name: np.array([value]) for name, value in numbers.items()})
    x = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
    (expected,) = run(model, x)
    remove_identities(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model).count("Slice") == (0 if swaps else 2)
    np.testing.assert_array_equal(run(model, x)[0], expected)


TWICE = """
twice (float[B, 2] x, float[B, 3] z, int64[1] zero, int64[1] end, int64[1] one)
    => (float[B, 7] y)
<float[B, 7] joined, float[B, 7] taken>
{
    joined = Concat <axis = -1> (x, z, x)
    taken = Slice (joined, zero, end, one)
    y = Neg (taken)
}
"""


def test_a_value_that_is_joined_twice_is_not_taken_for_the_whole() -> None:
    model = graph(TWICE, zero=np.array([0]), end=np.array([7]), one=np.array([1]))
    x, z = (np.random.default_rng(1).normal(size=(4, n)).astype(np.float32) for n in (2, 3))
    (expected,) = run(model, x, z)
    remove_identities(model)
    passes.RemoveUnusedNodesPass()(model)
    np.testing.assert_array_equal(run(model, x, z)[0], expected)


SLICED = """
sliced (float[B, 5, 6] x) => (float[B, S, 6] y)
{{
    zero = Constant <value_ints = [0]> ()
    two = Constant <value_ints = [2]> ()
    four = Constant <value_ints = [4]> ()
    end = Constant <value_ints = [9223372036854775807]> ()
    axis = Constant <value_ints = [1]> ()
    other = Constant <value_ints = [2]> ()
    a = Slice (x, {a})
    b = Slice (x, {b})
    both = Concat <axis = 1> ({order})
    y = Neg (both)
}}
"""


def sliced(a: str, b: str, order: str = "a, b"):
    model = graph(SLICED.format(a=a, b=b, order=order))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.ShapeInferencePass()(model)
    return model


def test_parts_that_are_joined_again_are_left_together() -> None:
    model = sliced("zero, two, axis", "two, end, axis")
    x = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(np.float32)
    (expected,) = run(model, x)
    remove_identities(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["Neg"]
    np.testing.assert_array_equal(run(model, x)[0], expected)


@pytest.mark.parametrize(
    "parts",
    [
        ("zero, two, axis", "two, end, axis", "b, a"),
        ("zero, two, axis", "two, four, axis", "a, b"),
        ("zero, two, axis", "zero, end, axis", "a, b"),
        ("two, four, axis", "four, end, axis", "a, b"),
        ("zero, two, axis", "two, end, axis, two", "a, b"),
    ],
    ids=["in another order", "not to the end", "one part twice", "not from the start", "a step"],
)
def test_parts_that_are_not_the_whole_stay(parts: tuple[str, str, str]) -> None:
    model = sliced(*parts)
    x = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(np.float32)
    (expected,) = run(model, x)
    remove_identities(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["Slice", "Slice", "Concat", "Neg"]
    np.testing.assert_array_equal(run(model, x)[0], expected)


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [("float", "float16", ["Neg"]), ("float16", "float", ["Cast", "Cast", "Neg"])],
    ids=["nothing lost", "rounded between"],
)
def test_a_cast_there_and_back_goes_where_it_loses_nothing(
    first: str, second: str, left: list[str]
) -> None:
    numbers = {"float": 1, "float16": 10}
    text = (
        f"c ({second}[3] x) => ({second}[3] y) <{first}[3] a, {second}[3] b> {{\n"
        f"a = Cast <to = {numbers[first]}> (x)\nb = Cast <to = {numbers[second]}> (a)\n"
        "y = Neg (b)\n}"
    )
    model = graph(text)
    remove_identities(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == left


def test_equal_nodes_are_one() -> None:
    model = graph(
        "m (float[3] x) => (float[3] y) <float[3] a, float[3] b> "
        "{ a = Neg (x)\nb = Neg (x)\ny = Mul (a, b)\n}"
    )
    share_equal_nodes(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["Neg", "Mul"]

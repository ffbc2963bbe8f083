"""Queries and keys, as the families' graphs write them."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.rotated_heads import fuse_heads, fuse_rotated_heads
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, rms_norm, run

SIGNED = """
    pairs = Reshape (whole, apart)
    even_part = Slice (pairs, from0, from1, last)
    even = Squeeze (even_part, last)
    odd_part = Slice (pairs, from1, from2, last)
    odd = Squeeze (odd_part, last)
    negated = Neg (odd)
    first_of = Unsqueeze (negated, last)
    second_of = Unsqueeze (even, last)
    crossed = Concat <axis = -1> (first_of, second_of)
    swapped = Reshape (crossed, split)
    straight = Mul (whole, cosines)
    across = Mul (swapped, sines)
    turned = Add (straight, across)
"""
COMPLEX = """
    pairs = Reshape (whole, apart)
    even_part = Slice (pairs, from0, from1, last)
    even = Squeeze (even_part, last)
    odd_part = Slice (pairs, from1, from2, last)
    odd = Squeeze (odd_part, last)
    a = Mul (even, cosines)
    b = Mul (odd, sines)
    real = Sub (a, b)
    c = Mul (even, sines)
    d = Mul (odd, cosines)
    imaginary = Add (c, d)
    first_of = Unsqueeze (real, last)
    second_of = Unsqueeze (imaginary, last)
    crossed = Concat <axis = -1> (first_of, second_of)
    turned = Reshape (crossed, split)
"""
HALVES = """
    inside = Transpose <perm = [0, 2, 1, 3]> (whole)
    lower = Slice (inside, from0, from4, third)
    upper = Slice (inside, from4, from8, third)
    negated = Neg (upper)
    swapped = Concat <axis = -1> (negated, lower)
    straight = Mul (inside, cosines)
    across = Mul (swapped, sines)
    summed = Add (straight, across)
    turned = Transpose <perm = [0, 2, 1, 3]> (summed)
"""
TEXT = """
heads (float[R, 5, 4] x, float[R, 3, 4] words, float[{table}] cosines, float[{table}] sines,
       float[4, 24] matrix, float[4, 24] matrix2, float[24] bias, float[24] bias2,
       float[8] weight) => (float[R, {tokens}, 24] y)
{{
    last = Constant <value_ints = [-1]> ()
    third = Constant <value_ints = [3]> ()
    from0 = Constant <value_ints = [0]> ()
    from1 = Constant <value_ints = [1]> ()
    from2 = Constant <value_ints = [2]> ()
    from4 = Constant <value_ints = [4]> ()
    from8 = Constant <value_ints = [8]> ()
    split = Constant <value_ints = [0, 0, 3, 8]> ()
    apart = Constant <value_ints = [0, 0, 3, 4, 2]> ()
    joined = Constant <value_ints = [0, 0, 24]> ()
    product = MatMul (x, matrix)
    shifted = Add (product, bias)
    picture = Reshape (shifted, split)
    {body}
    {turn}
    y = Reshape (turned, joined)
}}
"""
PRODUCT2 = """
    product2 = MatMul (words, matrix2)
    shifted2 = Add (bias2, product2)
    text = Reshape (shifted2, split)
"""
NORMED = rms_norm("picture", "weight") + "whole = Identity (picture_normed)"
BOTH = (
    PRODUCT2
    + rms_norm("picture", "weight")
    + rms_norm("text", "weight")
    + "whole = Concat <axis = 1> (text_normed, picture_normed)"
)
RANDOM = np.random.default_rng(5)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def heads(turn: str, body: str, table: str, tokens: int, text: str = TEXT) -> ir.Model:
    text = text.format(turn=turn, body=body, table=table, tokens=tokens)
    constants = {
        "matrix": numbers(4, 24),
        "matrix2": numbers(4, 24),
        "bias": numbers(24),
        "bias2": numbers(24),
        "weight": numbers(8),
    }
    model = graph(text, **constants)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.IdentityEliminationPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.ShapeInferencePass()(model)
    return model


def assert_fused(model: ir.Model, table: tuple[int, ...], left: list[str]) -> ir.Node:
    given = numbers(2, 5, 4), numbers(2, 3, 4), numbers(*table), numbers(*table)
    expected = run(model, *given)
    fuse_rotated_heads(model)
    passes.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    free = {"MatMul", "Reshape", "Squeeze", "Unsqueeze"}
    assert sorted(set(operators(model)) - free) == left
    np.testing.assert_allclose(run(model, *given)[0], expected[0], atol=2e-5)
    return next(node for node in model.graph if node.op_type == "RotatedHeads")


STYLES = {
    "signed": (SIGNED, "1, {0}, 1, 8", (1, 0, 1, 8)),
    "complex": (COMPLEX, "{0}, 1, 4", (0, 1, 4)),
    "halves": (HALVES, "1, 1, {0}, 8", (1, 1, 0, 8)),
    "signed by rows": (SIGNED, "R, {0}, 1, 8", (2, 0, 1, 8)),
    "halves by rows": (HALVES, "R, 1, {0}, 8", (2, 1, 0, 8)),
}


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("style", STYLES)
def test_norms_streams_and_rotation_become_one_operator(style: str, streams: int) -> None:
    turn, table, shape = STYLES[style]
    body, tokens = (NORMED, 5) if streams == 1 else (BOTH, 8)
    model = heads(turn, body, table.format(tokens), tokens)
    node = assert_fused(model, tuple(each or tokens for each in shape), ["RotatedHeads"])
    assert node.attributes["halves"].as_int() == style.startswith("halves")
    assert sum(each is not None for each in node.inputs) == 3 * streams + 2


def test_heads_without_a_norm_are_turned_too() -> None:
    model = heads(SIGNED, "whole = Identity (picture)", "1, 5, 1, 8", 5)
    assert_fused(model, (1, 5, 1, 8), ["RotatedHeads"])


@pytest.mark.parametrize(
    ("turn", "what"),
    [
        (SIGNED.replace("Neg (odd)", "Neg (even)"), "the wrong element negated"),
        (SIGNED.replace("Unsqueeze (even, last)", "Unsqueeze (odd, last)"), "nothing swapped"),
        (SIGNED.replace("Mul (swapped, sines)", "Mul (swapped, cosines)"), ""),
        (COMPLEX.replace("Sub (a, b)", "Sub (b, a)"), "the wrong sign"),
        (COMPLEX.replace("Mul (odd, cosines)", "Mul (even, cosines)"), "the wrong product"),
        (HALVES.replace("from0, from4", "from0, from2"), "less than half"),
    ],
)
def test_what_is_no_rotation_keeps_its_numbers(turn: str, what: str) -> None:
    halves = "inside" in turn
    if "from2, third" in turn:
        turn = turn.replace("from4, from8, third", "from2, from8, third")
    shape = (1, 1, 5, 8) if halves else (5, 1, 4) if "real" in turn else (1, 5, 1, 8)
    model = heads(turn, NORMED, ", ".join(map(str, shape)), 5)
    given = numbers(2, 5, 4), numbers(2, 3, 4), numbers(*shape), numbers(*shape)
    expected = run(model, *given)
    fuse_rotated_heads(model)
    passes.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    assert ("RotatedHeads" in operators(model)) == (not what)
    np.testing.assert_allclose(run(model, *given)[0], expected[0], atol=2e-5)


def test_a_table_for_each_head_is_none() -> None:
    model = heads(SIGNED, NORMED, "1, 1, 3, 8", 5)
    given = numbers(2, 5, 4), numbers(2, 3, 4), numbers(1, 1, 3, 8), numbers(1, 1, 3, 8)
    expected = run(model, *given)
    fuse_rotated_heads(model)
    assert "RotatedHeads" not in operators(model)
    np.testing.assert_allclose(run(model, *given)[0], expected[0], atol=2e-5)


def assert_unturned(model: ir.Model, *table: int) -> None:
    given = numbers(2, 5, 4), numbers(2, 3, 4), numbers(*table), numbers(*table)
    expected = run(model, *given)
    fuse_rotated_heads(model)
    assert "RotatedHeads" not in operators(model)
    np.testing.assert_allclose(run(model, *given)[0], expected[0], atol=2e-5)


def test_a_reshape_that_mixes_tokens_makes_no_heads() -> None:
    mixed = TEXT.replace("[0, 0, 3, 8]", "[0, 15, 1, 8]").replace("[0, 0, 3,", "[0, 15, 1,")
    mixed = mixed.replace("[0, 0, 24]", "[0, 5, 24]")
    assert_unturned(heads(SIGNED, NORMED, "1, 15, 1, 8", 5, mixed), 1, 15, 1, 8)


def test_a_transpose_without_an_order_is_no_swap_of_heads_and_tokens() -> None:
    body = "reversed = Transpose (picture)\nwhole = Transpose (reversed)"
    assert_unturned(heads(SIGNED, body, "1, 5, 1, 8", 5), 1, 5, 1, 8)


def test_a_name_that_is_taken_is_left_alone() -> None:
    model = heads(SIGNED, NORMED, "1, 5, 1, 8", 5)
    taken = model.graph.initializers.pop("split")
    taken.name = "turned.shape"
    model.graph.register_initializer(taken)
    assert_fused(model, (1, 5, 1, 8), ["RotatedHeads"])


VALUES = """
values (float[R, 5, 4] x, float[R, 3, 4] words, float[R, {tokens}, 24] query,
        float[4, 24] matrix, float[4, 24] matrix2, float[24] bias, float[24] bias2)
    => (float[R, {tokens}, 24] y)
{{
    split = Constant <value_ints = [0, 0, 3, 8]> ()
    joined = Constant <value_ints = [0, 0, 24]> ()
    product = MatMul (x, matrix)
    shifted = Add (product, bias)
    {body}
    y = com.microsoft.MultiHeadAttention <num_heads = 3> (query, {key}, {value})
}}
"""


@pytest.mark.parametrize("streams", [1, 2])
def test_biases_of_values_and_their_streams_become_one_operator(streams: int) -> None:
    body, value, tokens = "", "shifted", 5
    if streams == 2:
        body = PRODUCT2 + "picture = Reshape (shifted, split)\n"
        body += "both = Concat <axis = 1> (text, picture)\nwhole = Reshape (both, joined)"
        value, tokens = "whole", 8
    text = VALUES.format(body=body, key="query", value=value, tokens=tokens)
    constants = {name: numbers(4, 24) for name in ("matrix", "matrix2")}
    model = graph(text, **constants, bias=numbers(24), bias2=numbers(24))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.ShapeInferencePass()(model)
    given = numbers(2, 5, 4), numbers(2, 3, 4), numbers(2, tokens, 24)
    expected = run(model, *given)
    fuse_heads(model)
    passes.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    assert operators(model).count("RotatedHeads") == 1
    assert not {"Add", "Concat"} & set(operators(model))
    np.testing.assert_allclose(run(model, *given)[0], expected[0], atol=1e-5)


def test_a_reshape_of_two_streams_that_mixes_tokens_stays() -> None:
    body = PRODUCT2 + "picture = Reshape (shifted, split)\n"
    body += "both = Concat <axis = 1> (text, picture)\nwhole = Reshape (both, joined)"
    text = VALUES.format(body=body, key="query", value="whole", tokens=4)
    text = text.replace("R, 5, 4]", "R, 3, 4]").replace("[0, 0, 24]", "[0, 2, 72]")
    text = text.replace("R, 4, 24]", "R, 2, 72]")
    constants = {name: numbers(4, 24) for name in ("matrix", "matrix2")}
    model = graph(text, **constants, bias=numbers(24), bias2=numbers(24))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.ShapeInferencePass()(model)
    given = numbers(2, 3, 4), numbers(2, 3, 4), numbers(2, 2, 72)
    expected = run(model, *given)
    fuse_heads(model)
    np.testing.assert_allclose(run(model, *given)[0], expected[0], atol=1e-5)

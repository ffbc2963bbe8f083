"""Launches and shapes of the operators of our own, by hand-computed quantities."""

import pytest

from benchmarks.roofline.call import Cost
from benchmarks.roofline.gpus import GPUS
from benchmarks.roofline.launches import Launch, seconds
from tests.benchmarks.roofline.graphs import found, shapes

ROWS = 2 * 5 * 8
"""Elements of `[2, 5, 8]`."""
SUM = """g (bfloat16[R, 5, 8] x, bfloat16[R, 5, 8] b, bfloat16[R, 1, 8] m) => ({outputs}) {{
    {outputs} = calotype.GatedSumNorm <norm = "rms", epsilon = 0.00001>
        (x, b, "", "", m, "", m, m)
}}"""
HEADS = """g (bfloat16[R, 5, 8] x, bfloat16[R, 3, 8] s, bfloat16[4] w, float[1, 8, 4] t) => (y) {{
    y = calotype.RotatedHeads <heads = 2> ({inputs})
}}"""


def launch(cost: Cost) -> tuple[Launch, Launch]:
    (vectors,), (single,) = cost.launches, cost.worst
    assert vectors.accesses == vectors.indices == 0
    assert seconds(single, GPUS["h100"]) > seconds(vectors, GPUS["h100"])
    return vectors, single


@pytest.mark.parametrize(
    ("outputs", "tensors"), [("normed, sum", 4), ('"", sum', 3), ("normed", 3)]
)
def test_a_gated_sum_writes_what_is_asked_for(outputs: str, tensors: int) -> None:
    text = SUM.format(outputs=outputs).replace('=> ("", sum)', "=> (sum)")
    (cost,) = found(text, R=2)
    vectors, single = launch(cost)
    gates = 3 * 2 * (2 * 1 * 8)
    assert vectors.bytes == tensors * 2 * ROWS + gates
    assert single.accesses >= tensors * ROWS


def test_a_norm_costs_more_instructions_than_a_sum_alone() -> None:
    (both,) = found(SUM.format(outputs="normed, sum"), R=2)
    (alone,) = found(SUM.format(outputs='"", sum').replace('=> ("", sum)', "=> (sum)"), R=2)
    assert both.launches[0].instructions > alone.launches[0].instructions


def test_heads_of_two_streams_follow_one_another() -> None:
    text = HEADS.format(inputs='x, "", w, s, "", w, t, t')
    assert shapes(text, R=2)["y"] == (2, 8, 8)
    (cost,) = found(text, R=2)
    vectors, _ = launch(cost)
    read, table, weights = 2 * (ROWS + 2 * 3 * 8), 2 * 4 * (8 * 4), 2 * 2 * 4
    assert vectors.bytes == 2 * read + table + weights


def test_heads_without_norm_or_rotation_are_copied() -> None:
    text = HEADS.format(inputs="x")
    assert shapes(text, R=2)["y"] == (2, 5, 8)
    (plain,) = found(text, R=2)
    (normed,) = found(HEADS.format(inputs='x, "", w'), R=2)
    assert launch(plain)[0].bytes == 2 * 2 * ROWS
    assert launch(normed)[0].instructions > launch(plain)[0].instructions


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
def test_an_activation_with_a_value_reads_two_and_writes_one(activation: str) -> None:
    text = f"""g (bfloat16[R, 5, 8] x, bfloat16[R, 5, 8] v) => (y) {{
        y = calotype.GatedActivation <activation = "{activation}"> (x, "", v)
    }}"""
    (cost,) = found(text, R=2)
    assert launch(cost)[0].bytes == 3 * 2 * ROWS


def test_a_packed_activation_writes_half_of_what_it_reads() -> None:
    text = """g (bfloat16[R, 5, 8] x, bfloat16[8] b) => (y) {
        y = calotype.GatedActivation <activation = "gelu", packed = 1> (x, b)
    }"""
    assert shapes(text, R=2)["y"] == (2, 5, 4)
    (cost,) = found(text, R=2)
    assert launch(cost)[0].bytes == 2 * ROWS + 2 * 8 + ROWS


def test_what_stands_before_an_activation_is_copied() -> None:
    text = """g (bfloat16[R, 5, 8] x, bfloat16[R, 5, 6] a) => (y) {
        y = calotype.GatedActivation <activation = "gelu_tanh"> (x, "", "", "", a)
    }"""
    assert shapes(text, R=2)["y"] == (2, 5, 14)
    (cost,) = found(text, R=2)
    vectors, single = launch(cost)
    assert vectors.bytes == 2 * 2 * (ROWS + 2 * 5 * 6)
    assert single.accesses == 2 * (ROWS + 2 * 5 * 6)

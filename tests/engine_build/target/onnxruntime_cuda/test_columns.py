"""Columns that are taken one by one, as one Split."""

import numpy as np
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.columns import split_columns
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

COLUMNS = """
columns (float[B, {extent}] x, int64{shape} first, int64{shape} last) => (float{out} y)
<float{out} one, float{out} two>
{{
    one = Gather <axis = {axis}> (x, first)
    two = Gather <axis = {axis}> (x, last)
    y = Sub (one, two)
}}
"""


def columns(extent: str = "3", shape: str = "", out: str = "[B]", axis: int = 1):
    first, last = (np.array([at] if shape else at) for at in (0, 2))
    text = COLUMNS.format(extent=extent, shape=shape, out=out, axis=axis)
    return graph(text, first=first, last=last)


def test_one_split_takes_all_columns() -> None:
    model = columns()
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    (expected,) = run(model, x)
    split_columns(model)
    passes.RemoveUnusedNodesPass()(model)
    assert operators(model) == ["Split", "Squeeze", "Squeeze", "Sub"]
    np.testing.assert_array_equal(run(model, x)[0], expected)


@pytest.mark.parametrize(
    "model",
    [columns(extent="N"), columns(shape="[1]", out="[B, 1]"), columns(axis=0, out="[N]")],
    ids=["an unknown number of columns", "a list of indices", "rows of samples"],
)
def test_what_is_no_column_of_a_known_number_stays(model) -> None:
    before = operators(model)
    split_columns(model)
    assert operators(model) == before


def test_a_few_columns_of_many_stay_by_themselves() -> None:
    model = columns(extent="8")
    split_columns(model)
    assert "Split" not in operators(model)

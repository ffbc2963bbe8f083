"""Properties of every step table, whichever sampler made it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from runtime.package.step_graph import COLUMNS, Coefficients
from runtime.plan.sampling.table import StepTable, TableRow

ROWS = [
    TableRow(0, 999.0, Coefficients(1.0, 1.0, -2.0, 0.0, 1.0, a=1.0, b=-1.0, n=0.5), {0: 1.0}),
    TableRow(0, 500.5, Coefficients(1.0, 1.0, -1.0, 0.0, 1.0, a=0.5, b=0.25, c1=3.0), {}),
    TableRow(1, 1.0, Coefficients(*range(11)), {0: -0.6, 2: 0.8}),
]


def table() -> StepTable:
    return StepTable.of(ROWS, initial_scale=14.6, draws=3)


def test_the_columns_that_the_step_graph_reads() -> None:
    assert COLUMNS == ("c_in", "px", "po", "qx", "qo", "a", "b", "c1", "c2", "c3", "n")


def test_rows_become_arrays() -> None:
    made = table()
    assert made.rows == 3
    assert made.steps == 2
    assert made.step.tolist() == [0, 0, 1]
    assert made.timesteps.tolist() == [999.0, 500.5, 1.0]
    assert made.coefficients[0].tolist() == [1, 1, -2, 0, 1, 1, -1, 0, 0, 0, 0.5]
    assert made.coefficients[2].tolist() == list(range(11))
    np.testing.assert_allclose(made.draws, [[1, 0, 0], [0, 0, 0], [-0.6, 0, 0.8]], rtol=1e-7)
    assert made.initial_scale == float(np.float32(14.6))
    for array in (made.timesteps, made.coefficients, made.draws):
        assert array.dtype == np.float32
    assert made.step.dtype == np.int64


def test_nobody_can_write_to_it() -> None:
    given = np.array([3.0], dtype=np.float32)
    made = StepTable(given, np.zeros((1, 11)), np.zeros((1, 0)), 1.0, np.zeros(1, dtype=np.int64))
    for array in (made.timesteps, made.coefficients, made.draws, made.step):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    given[0] = 4.0
    assert made.timesteps[0] == 3.0
    with pytest.raises(AttributeError):
        made.initial_scale = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timesteps": np.zeros(2)}, r"coefficients has shape \(3, 11\), expected \(2, 11\)"),
        ({"timesteps": np.zeros(0)}, "no rows"),
        ({"timesteps": np.zeros((3, 1))}, "timesteps has shape"),
        ({"timesteps": np.array([1.0, np.nan, 0.0])}, "timesteps is not finite"),
        ({"coefficients": np.zeros((3, 10))}, "coefficients has shape"),
        ({"coefficients": np.full((3, 11), np.inf)}, "coefficients is not finite"),
        ({"draws": np.zeros((2, 3))}, "draws has shape"),
        ({"draws": np.zeros(3)}, "draws has shape"),
        ({"draws": np.array(1.0)}, "draws has shape"),
        ({"draws": np.full((3, 1), np.nan)}, "draws is not finite"),
        ({"step": np.zeros(4, dtype=np.int64)}, "step has shape"),
        ({"step": np.array([0, 2, 3])}, "step must rise"),
        ({"step": np.array([1, 1, 2])}, "step must rise"),
        ({"step": np.array([0, 1, 0])}, "step must rise"),
        ({"initial_scale": 0.0}, "initial_scale is 0.0"),
        ({"initial_scale": float("nan")}, "initial_scale is nan"),
    ],
)
def test_what_is_no_table(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(table(), **change)

"""Weights that a graph reads as they are stored."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.stored_weights import (
    fuse_transposed_products,
    look_up_stored_rows,
)
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

PRODUCT = """
product (float[B, S, 4] x, float[6, 4] weight) => (float[B, S, 6] y)
<float[4, 6] turned>
{
    turned = Transpose <perm = [1, 0]> (weight)
    y = MatMul (x, turned)
}
"""
ROWS = """
rows (int64[B] ids, float16[5, 4] table) => (float[B, 4] y)
<float[5, 4] wide, float[B, 4] found>
{
    wide = Cast <to = 1> (table)
    found = Gather <axis = 0> (wide, ids)
    y = Neg (found)
}
"""
RANDOM = np.random.default_rng(8)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def assert_left(model: ir.Model, left: list[str], *given: np.ndarray) -> None:
    (expected,) = run(model, *given)
    for fuse in (fuse_transposed_products, look_up_stored_rows):
        fuse(model)
        passes.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    assert operators(model) == left
    np.testing.assert_allclose(run(model, *given)[0], expected, atol=1e-6)


def test_a_product_reads_a_matrix_as_it_is_stored() -> None:
    model = graph(PRODUCT, weight=numbers(6, 4))
    assert_left(model, ["FusedMatMul"], numbers(2, 3, 4))
    assert [value.name for value in model.graph.initializers.values()] == ["weight"]
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_a_matrix_that_is_no_weight_stays_transposed() -> None:
    assert_left(graph(PRODUCT), ["Transpose", "MatMul"], numbers(2, 3, 4), numbers(6, 4))


def test_rows_are_widened_once_they_are_looked_up() -> None:
    model = graph(ROWS, table=numbers(5, 4).astype(np.float16))
    assert_left(model, ["Gather", "Cast", "Neg"], np.array([4, 0, 4]))


@pytest.mark.parametrize("table", [None, numbers(5, 4).astype(np.float16)], ids=["given", "made"])
def test_a_table_that_is_made_first_is_widened_as_a_whole(table: np.ndarray | None) -> None:
    made = ROWS.replace("wide = Cast <to = 1> (table)", "m = Neg (table)\nwide = Cast <to = 1> (m)")
    text = ROWS if table is None else made
    model = graph(text) if table is None else graph(text, table=table)
    given = [np.array([4, 0])] if table is not None else [np.array([4, 0]), np.ones((5, 4), "e")]
    assert_left(model, operators(model), *given)

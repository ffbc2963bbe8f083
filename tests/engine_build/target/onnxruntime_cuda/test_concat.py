"""Concats of more inputs than CUDA's kernel takes in a capture."""

import numpy as np
import onnx_ir as ir
import pytest

from engine_build.target.onnxruntime_cuda.capturable import uncapturable
from engine_build.target.onnxruntime_cuda.concat import split_concats
from engine_build.target.onnxruntime_cuda.kernels import LARGEST_CONCAT
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, run

X = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)


def stack(count: int) -> ir.Model:
    """`count` different pieces, of different widths, beside each other."""
    constants = {
        f"c{each}": np.full((2, 1 + each % 3), each, np.float32) for each in range(count - 1)
    }
    inputs = "".join(f", float[2, {value.shape[1]}] {name}" for name, value in constants.items())
    pieces = ", ".join(["x", *constants])
    body = f"y = Concat <axis = 1> ({pieces}) z = Neg (y)"
    return graph(
        f"g (float[2, 3] x{inputs}) => (float[2, n] y, float[2, m] z) {{ {body} }}", **constants
    )


def widest(model: ir.Model) -> int:
    return max(len(node.inputs) for node in model.graph if node.op_type == "Concat")


@pytest.mark.parametrize("count", [33, 64, 65, 1100])
def test_no_bit_changes_and_no_concat_is_too_wide(count: int) -> None:
    model = stack(count)
    expected = run(model, X)
    split_concats(model)
    assert widest(model) <= LARGEST_CONCAT
    for found, value in zip(run(model, X), expected, strict=True):
        np.testing.assert_array_equal(found, value)


def test_parts_that_begin_with_one_tensor_have_names_of_their_own() -> None:
    pieces = ", ".join(["x"] * 70)
    model = graph(f"g (float[2, 3] x) => (float[2, n] y) {{ y = Concat <axis = 1> ({pieces}) }}")
    split_concats(model)
    names = [node.name for node in model.graph]
    assert len({*names}) == len(names)
    (found,) = run(model, X)
    np.testing.assert_array_equal(found, np.concatenate([X] * 70, axis=1))


def test_one_that_is_captured_as_it_is_stays() -> None:
    model = stack(LARGEST_CONCAT)
    before = [node.name for node in model.graph]
    split_concats(model)
    assert [node.name for node in model.graph] == before
    assert widest(model) == LARGEST_CONCAT


def test_one_that_is_too_wide_is_told_until_it_is_split() -> None:
    model = stack(33)
    (refusal,) = uncapturable(model)
    assert "Concat of 33 inputs, at most 32" in str(refusal)
    split_concats(model)
    assert uncapturable(model) == ()

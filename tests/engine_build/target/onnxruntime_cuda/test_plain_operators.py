"""Our operators written out, held to their definitions in NumPy."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import pytest

from engine_build.target.onnxruntime_cuda.operators import (
    GATED_ACTIVATION,
    GATED_SUM_NORM,
    ROTATED_HEADS,
    our_operator,
)
from engine_build.target.onnxruntime_cuda.patterns import OURS
from tests.engine_build.target.onnxruntime_cuda.graphs import run
from tests.fakes import operators as reference

Given = Sequence[np.ndarray | None]
Settings = Mapping[str, int | float | str]


def exactly(numbers: np.ndarray) -> np.ndarray:
    return numbers


def written(op_type: str, given: Given, settings: Settings, outputs: int = 1) -> list[np.ndarray]:
    """The answers of a graph of one operator, written out."""
    wide = ir.TensorType(ir.DataType.FLOAT)
    inputs = [
        None if each is None else ir.Value(name=f"i{index}", type=wide, shape=ir.Shape(each.shape))
        for index, each in enumerate(given)
    ]
    made = [ir.Value(name=f"o{index}", type=wide) for index in range(outputs)]
    node = our_operator(op_type, inputs, made, settings)
    there = [each for each in inputs if each is not None]
    graph = ir.Graph(there, made, nodes=[node], opset_imports={"": 20, OURS: 1}, name="one")
    return run(ir.Model(graph, ir_version=10), *[each for each in given if each is not None])


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("left_out", [(), (1, 2, 3, 4), (2, 3), (4,), (5,), (6,), (7,), (6, 7)])
def test_a_sum_and_its_norm(norm: str, left_out: tuple[int, ...]) -> None:
    every = [numbers(2, 3, 6), numbers(2, 3, 6), numbers(6), numbers(6), numbers(2, 1, 6)]
    every += [numbers(6), numbers(1, 1, 6), numbers(2, 6)]
    given = [None if index in left_out else each for index, each in enumerate(every)]
    settings = {"norm": norm, "epsilon": 1e-3, "branch_epsilon": 1e-2, "gate_tanh": 1}
    normed, total = reference.gated_sum_norm(given, **settings, rounded=exactly)
    outputs = 2 if given[1] is not None else 1
    found = written(GATED_SUM_NORM, given, settings, outputs)
    assert_equal(found[0], normed)
    if outputs == 2:
        assert_equal(found[1], total)


@pytest.mark.parametrize("columns", [4, 8])
@pytest.mark.parametrize("halves", [0, 1])
@pytest.mark.parametrize("rows", [1, 2])
def test_rotated_heads_of_two_streams(columns: int, halves: int, rows: int) -> None:
    given = [numbers(2, 3, 24), numbers(24), numbers(8), numbers(2, 4, 24), None, numbers(8)]
    given += [numbers(rows, 7, columns), numbers(rows, 7, columns) * 2]
    settings = {"heads": 3, "epsilon": 1e-3, "halves": halves}
    (found,) = written(ROTATED_HEADS, given, settings)
    assert_equal(found, reference.rotated_heads(given, **settings))


def test_heads_with_neither_a_norm_nor_a_rotation() -> None:
    given = [numbers(2, 3, 24), numbers(24)]
    settings = {"heads": 3, "epsilon": 0.0, "halves": 0}
    (found,) = written(ROTATED_HEADS, given, settings)
    assert_equal(found, reference.rotated_heads(given, **settings))


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("left_out", [(), (1, 3), (2, 3), (4,)])
def test_gated_activations(activation: str, left_out: tuple[int, ...]) -> None:
    every = [numbers(2, 3, 6), numbers(6), numbers(2, 3, 6) + 1, numbers(6), numbers(2, 3, 5)]
    given = [None if index in left_out else each for index, each in enumerate(every)]
    settings = {"activation": activation, "packed": 0}
    (found,) = written(GATED_ACTIVATION, given, settings)
    assert_equal(found, reference.gated_activation(given, **settings))


def test_a_packed_activation_has_its_value_first() -> None:
    given, settings = [numbers(2, 3, 12), numbers(12)], {"activation": "gelu", "packed": 1}
    (found,) = written(GATED_ACTIVATION, given, settings)
    assert_equal(found, reference.gated_activation(given, **settings))


def test_an_answer_keeps_its_name_and_its_dtype() -> None:
    narrow = ir.TensorType(ir.DataType.FLOAT16)
    x = ir.Value(name="x", type=narrow, shape=ir.Shape([1, 1, 4]))
    y = ir.Value(name="y", type=narrow, shape=ir.Shape([1, 1, 4]))
    node = our_operator(GATED_ACTIVATION, [x], [y], {"activation": "silu", "packed": 0})
    graph = ir.Graph([x], [y], nodes=[node], opset_imports={"": 20, OURS: 1}, name="one")
    (found,) = run(ir.Model(graph, ir_version=10), np.ones((1, 1, 4), np.float16))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-1)), rtol=1e-3)

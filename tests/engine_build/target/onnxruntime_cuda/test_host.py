"""Numbers of shapes that kernels on the device read."""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.capturable import uncapturable
from engine_build.target.onnxruntime_cuda.host import put_numbers_on_device
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

X = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)


def model(body: str, outputs: str, **constants: np.ndarray) -> ir.Model:
    names = "".join(
        f", {'int64' if value.dtype == np.int64 else 'float'}{list(value.shape) or ''} {name}"
        for name, value in constants.items()
    )
    found = graph(f"g (float[b, 3, n] x{names}) => ({outputs}) {{ {body} }}", **constants)
    passes.ShapeInferencePass()(found)
    return found


def sources(found: ir.Model, name: str) -> set[str]:
    """The operators that a value is made by."""
    producer = next(
        value.producer() for node in found.graph for value in node.outputs if value.name == name
    )
    assert producer is not None
    inputs = [value for value in producer.inputs if value is not None and value.producer()]
    return {producer.op_type}.union(*(sources(found, str(value.name)) for value in inputs))


def test_a_count_that_is_reckoned_with_comes_from_the_device() -> None:
    """As PyTorch's standard deviation is exported."""
    found = model(
        "s = Shape (x) e = Gather (s, axes) n = ReduceProd <keepdims = 0> (e)"
        "c = Cast <to = 1> (n) less = Sub (c, one) y = Div (x, less)",
        "float[b, 3, n] y",
        axes=np.array([1, 2]),
        one=np.array(1, np.float32),
    )
    put_numbers_on_device(found)
    assert uncapturable(found) == ()
    assert "Range" in sources(found, "y")
    np.testing.assert_array_equal(run(found, X)[0], X / np.float32(11))


def test_what_was_decided_on_the_host_is_decided_once_more() -> None:
    found = model(
        "s = Shape <start = 2, end = 3> (x) n = Squeeze (s, first) large = Greater (n, two)"
        "is_positive = Greater (x, zero) y = Equal (is_positive, large)",
        "bool[b, 3, n] y",
        first=np.array([0]),
        two=np.array(2),
        zero=np.array(0, np.float32),
    )
    put_numbers_on_device(found)
    assert uncapturable(found) == ()
    assert operators(found).count("Greater") == 3
    np.testing.assert_array_equal(run(found, X)[0], X > 0)


def test_a_number_that_many_read_is_made_once() -> None:
    found = model(
        "s = Shape <start = 2, end = 3> (x) n = Squeeze (s, first) c = Cast <to = 1> (n)"
        "p = Mul (x, c) y = Add (p, c)",
        "float[b, 3, n] y",
        first=np.array([0]),
    )
    put_numbers_on_device(found)
    assert uncapturable(found) == ()
    assert operators(found).count("Range") == 1
    np.testing.assert_array_equal(run(found, X)[0], X * 4 + 4)


def test_shapes_stay_where_they_are() -> None:
    found = model(
        "s = Shape (x) head = Slice (s, zero, two) rest = Concat <axis = 0> (head, four)"
        "y = Expand (four_numbers, rest)",
        "float[b, 3, m] y",
        zero=np.array([0]),
        two=np.array([2]),
        four=np.array([4]),
        four_numbers=np.arange(4, dtype=np.float32),
    )
    before = operators(found)
    put_numbers_on_device(found)
    assert uncapturable(found) == ()
    assert operators(found) == before


def test_what_is_no_single_number_stays_and_is_told() -> None:
    body = "s = Shape (x) c = Cast <to = 1> (s) p = Neg (x) y = Mul (p, c)"
    found = model(body, "float[b, 3, 3] y")
    put_numbers_on_device(found)
    (refusal,) = uncapturable(found)
    assert "Mul reads c on the device, and the host computes it" in refusal.reason


@pytest.mark.parametrize("keepdims", [0, 1])
def test_of_places_that_are_equally_large_the_first_is_found(keepdims: int) -> None:
    tokens = np.array([[5, 9, 1, 9], [7, 7, 7, 2]])
    found = graph(
        "g (int64[b, 4] x, int64[2] rows) => (int64[b, 1] y) {"
        f" a = ArgMax <axis = -1, keepdims = {keepdims}> (x) y = Reshape (a, rows) }}",
        rows=np.array([-1, 1]),
    )
    passes.ShapeInferencePass()(found)
    (expected,) = run(found, tokens)
    put_numbers_on_device(found)
    passes.RemoveUnusedNodesPass()(found)
    assert uncapturable(found) == ()
    assert "ArgMax" not in operators(found)
    np.testing.assert_array_equal(run(found, tokens)[0], expected)

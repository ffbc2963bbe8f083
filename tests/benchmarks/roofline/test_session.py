"""Nodes that are left to run once ONNX Runtime has opened a graph."""

from tests.benchmarks.roofline.graphs import kinds


def test_weights_are_arranged_once_and_not_at_each_call() -> None:
    assert kinds(
        """g (float16[B, 4] x) => (y) <float[3, 4] w = {0,0,0,0,0,0,0,0,0,0,0,0}> {
            turned = Transpose <perm = [1, 0]> (w)
            narrow = Cast <to = 10> (turned)
            y = MatMul (x, narrow)
        }""",
        B=2,
    ) == ["matrix product"]


def test_shapes_are_computed_on_the_host() -> None:
    assert kinds(
        """g (float[B, 4] x) => (y) <int64[1] one = {1}, int64[1] rest = {-1}> {
            rows = Shape <start = 0, end = 1> (x)
            more = Mul (rows, one)
            target = Concat <axis = 0> (more, rest)
            flat = Reshape (x, target)
            y = Relu (flat)
        }""",
        B=2,
    ) == ["other"]


def test_what_changes_nothing_is_gone() -> None:
    assert kinds(
        """g (float[B, 4, 3] x) => (y) <float one = {1}, float zero = {0}> {
            divided = Div (x, one)
            moved = Transpose <perm = [0, 2, 1]> (divided)
            back = Transpose <perm = [0, 2, 1]> (moved)
            same = Cast <to = 1> (back)
            shifted = Add (zero, same)
            y = Relu (shifted)
        }""",
        B=2,
    ) == ["other"]


def test_one_divided_by_a_value_is_computed() -> None:
    text = "g (float[B] x) => (y) <float one = {1}> { y = Div (one, x) }"
    assert kinds(text, B=2) == ["other"]


def test_equal_nodes_run_once() -> None:
    assert kinds(
        """g (float[B] x) => (y) <float two = {2}, float other = {2}> {
            a = Mul (x, two)
            b = Mul (x, other)
            y = Add (a, b)
        }""",
        B=2,
    ) == ["Mul", "Add"]


def test_a_value_times_its_sigmoid_is_one_kernel() -> None:
    assert kinds(
        """g (float[B] x) => (y) <float factor = {1.702}> {
            scaled = Mul (x, factor)
            gate = Sigmoid (scaled)
            y = Mul (x, gate)
        }""",
        B=2,
    ) == ["other"]
    text = "g (float[B] x) => (y, gate) { gate = Sigmoid (x) y = Mul (x, gate) }"
    assert kinds(text, B=2) == ["other", "Mul"]


def test_what_only_a_shape_reads_is_not_computed() -> None:
    assert kinds(
        """g (float[B, 4, 3] x) => (y) {
            wide = Cast <to = 11> (x)
            moved = Transpose <perm = [2, 1, 0]> (wide)
            shape = Shape (moved)
            y = Expand (x, shape)
        }""",
        B=3,
    ) == ["other"]

"""Casts to 16 bits before what moves numbers."""

import numpy as np
import onnx_ir.passes.common as passes

from engine_build.target.onnxruntime_cuda.casts import narrow_early
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

X = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
MOVED = "t = Transpose <perm = [0, 2, 1]> (x) r = Reshape (t, rows)"


def model(body: str, outputs: str):
    inputs = "float[2, 3, 4] x, int64[2] rows"
    found = graph(f"g ({inputs}) => ({outputs}) {{ {body} }}", rows=np.array([2, 12]))
    passes.ShapeInferencePass()(found)
    return found


def test_what_is_only_moved_is_narrowed_first() -> None:
    plain = model(
        f"s = Sigmoid (x) {MOVED.replace('(x)', '(s)')} n = Cast <to = 10> (r) y = Neg (n)",
        "float16[2, 12] y",
    )
    (expected,) = run(plain, X)
    narrow_early(plain)
    assert operators(plain) == ["Sigmoid", "Cast", "Transpose", "Reshape", "Neg"]
    (found,) = run(plain, X)
    np.testing.assert_array_equal(found, expected)


def test_what_is_read_in_fp32_too_stays() -> None:
    plain = model(
        f"{MOVED} n = Cast <to = 10> (r) y = Neg (n) z = Abs (r)",
        "float16[2, 12] y, float[2, 12] z",
    )
    narrow_early(plain)
    assert operators(plain) == ["Transpose", "Reshape", "Cast", "Neg", "Abs"]

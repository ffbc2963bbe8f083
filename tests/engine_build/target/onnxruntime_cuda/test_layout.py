"""Channels are put last once, and nothing that reads a picture sees a difference."""

import numpy as np
import onnx_ir.passes.common as passes
import pytest

from engine_build.target.onnxruntime_cuda.layout import put_channels_last
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

CONV = (
    'Conv <auto_pad = "NOTSET", dilations = [1, 1], group = 1, kernel_shape = [1, 1], '
    "pads = [0, 0, 0, 0], strides = [1, 1]>"
)
WEIGHTS = {
    "w": np.random.default_rng(1).normal(size=(6, 6, 1, 1)).astype(np.float32),
    "b": np.random.default_rng(2).normal(size=6).astype(np.float32),
    "half": np.array(0.5, np.float32),
    "sizes": np.array([1, 1, 2, 2], np.float32),
    "rows": np.array([0, 0, -1]),
}
X = np.random.default_rng(3).normal(size=(2, 6, 4, 8)).astype(np.float32)

BODIES = {
    "a residual": "c = CONV (x, w, b) s = Sigmoid (c) m = Mul (c, s) d = CONV (m, w, b) "
    "e = Add (c, d) y = Div (e, half)",
    "a spread vector": "v = ReduceMean <axes = [2, 3]> (x) c = CONV (x, w, b) y = Add (c, v)",
    "a skip connection": "c = CONV (x, w, b) d = Concat <axis = 1> (c, x) "
    "e, f = Split <axis = 1, num_outputs = 2> (d) y = CONV (e, w, b)",
    "an upsampling": 'c = CONV (x, w, b) u = Resize <mode = "nearest", '
    'coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (c, , sizes) '
    "y = CONV (u, w, b)",
    "a shape": "c = CONV (x, w, b) n = Shape (c) r = Reshape (c, rows) q = Reshape (r, n) "
    "y = Add (q, c)",
    "an axis of a shape": "c = CONV (x, w, b) n = Shape <start = 1, end = 2> (c) "
    "k = Cast <to = 1> (n) d = Mul (c, k) m = Shape <start = -1> (d) j = Cast <to = 1> (m) "
    "y = Mul (d, j)",
    "attention's rows": "c = CONV (x, w, b) t = Transpose <perm = [0, 2, 3, 1]> (c) "
    "g = Sigmoid (t) p = Transpose <perm = [0, 3, 1, 2]> (g) y = Add (p, c)",
    "channels last as output": "c = CONV (x, w, b) y = Transpose <perm = [0, 2, 3, 1]> (c)",
}
MOVES = {
    "a residual": 2,
    "a spread vector": 3,
    "an upsampling": 2,
    "attention's rows": 2,
    "channels last as output": 3,
}


def model(body: str):
    inputs = "float[N, 6, h, v] x, float[6, 6, 1, 1] w, float[6] b, float half, float[4] sizes"
    text = (
        f"g ({inputs}, int64[3] rows) => (float[N, c, p, q] y) {{ {body.replace('CONV', CONV)} }}"
    )
    text = text.replace("ReduceMean <axes = [2, 3]> (x)", "GlobalAveragePool (x)")
    found = graph(text, **WEIGHTS)
    passes.ShapeInferencePass()(found)
    return found


@pytest.mark.parametrize("name", list(BODIES))
def test_the_answer_is_the_same(name: str) -> None:
    plain = model(BODIES[name])
    (expected,) = run(plain, X)
    put_channels_last(plain)
    passes.RemoveUnusedNodesPass()(plain)
    found = operators(plain)
    assert "Conv" not in found
    assert [value.name for value in plain.graph.outputs] == ["y"]
    (answer,) = run(plain, X)
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    if name in MOVES:
        assert found.count("Transpose") - found.count("NhwcConv") == MOVES[name]


def test_bf16_has_no_such_convolution() -> None:
    inputs = "bfloat16[N, 6, h, v] x, bfloat16[6, 6, 1, 1] w"
    text = f"g ({inputs}) => (bfloat16[N, 6, h, v] y) {{ y = {CONV} (x, w) }}"
    plain = graph(text)
    put_channels_last(plain)
    assert operators(plain) == ["Conv"]


def test_sizes_that_are_constant_stay_so() -> None:
    """A capture cannot wait for the host to read them of the device."""
    found = model(BODIES["an upsampling"])
    put_channels_last(found)
    (resize,) = (node for node in found.graph if node.op_type == "Resize" and node.name)
    sizes = resize.inputs[2]
    assert sizes is not None
    assert sizes.const_value is not None
    np.testing.assert_array_equal(sizes.const_value.numpy(), [1, 2, 2, 1])

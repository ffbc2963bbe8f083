"""Biases of convolutions as Adds."""

import numpy as np

from engine_build.target.onnxruntime_cuda.convolution_biases import put_biases_behind
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators, run

CONV = """
conv (float[N, H, W, 4] x, float[6, 3, 3, 4] kernel, float[6] bias) => (float[N, H, W, 6] y)
{
    y = com.microsoft.NhwcConv <auto_pad = "NOTSET", dilations = [1, 1], group = 1,
        kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1]> (x, kernel, bias)
}
"""


def test_an_add_behind_the_convolution_adds_the_bias_also_to_an_answer() -> None:
    random = np.random.default_rng(1)
    kernel, bias = random.normal(size=(6, 3, 3, 4)), random.normal(size=6)
    model = graph(CONV, kernel=kernel.astype("f4"), bias=bias.astype("f4"))
    x = random.normal(size=(2, 5, 7, 4)).astype(np.float32)
    (expected,) = run(model, x)
    put_biases_behind(model)
    assert operators(model) == ["NhwcConv", "Add"]
    assert model.graph[1].inputs[1] is model.graph.initializers["bias"]
    assert [value.name for value in model.graph.outputs] == ["y"]
    np.testing.assert_allclose(run(model, x)[0], expected, atol=1e-5)

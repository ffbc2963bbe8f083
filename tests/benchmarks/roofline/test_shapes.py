"""Concrete shapes of every value: operators by hand, whole graphs by ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from benchmarks.roofline.shapes import known_values, shapes_at
from engine_build.target.onnxruntime_cuda.compiler import optimise
from engine_build.target.onnxruntime_cuda.definitions import define_operators
from runtime.backends.onnxruntime.cpu import open_session
from runtime.errors import BuildError
from runtime.package.manifest import load_package
from tests.benchmarks.roofline.graphs import graph, shapes
from tests.tiny.lora_packs import ENGINES

EXTENTS = {
    "batch": 1, "evaluations": 2, "height": 16, "width": 8, "tokens": 77, "caption": 32
}  # fmt: skip


def outputs_by_onnxruntime(model: ir.Model, folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all values that the CPU's provider computes, at EXTENTS."""
    given = shapes_at(model, EXTENTS)
    define_operators(model)
    model.graph.outputs[:] = [
        value for node in model.graph for value in node.outputs if value.uses() or node.outputs
    ]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = open_session(ir.to_proto(model).SerializeToString(), options, folder)
    types = {each.name: each.type for each in session.get_inputs()}
    inputs = {name: _zeros(shape, types[name]) for name, shape in given.items() if name in types}
    names = [each.name for each in session.get_outputs()]
    return {
        name: array.shape for name, array in zip(names, session.run(names, inputs), strict=True)
    }


def _zeros(shape: tuple[int, ...], kind: str) -> np.ndarray:
    return np.zeros(shape, {"tensor(float)": np.float32, "tensor(int64)": np.int64}[kind])


def agrees(model: ir.Model, folder: Path) -> int:
    """Number of values of a graph, after asserting that all have the shapes of ONNX Runtime."""
    known = known_values(model, shapes_at(model, EXTENTS))
    mine = {str(value.name): facts.shape for value, facts in known.items()}
    theirs = outputs_by_onnxruntime(model, folder)
    assert {name: mine[name] for name in theirs} == theirs
    return len(theirs)


@pytest.mark.parametrize("role", ["denoiser", "text_encoder", "vae_decoder", "preview_decoder"])
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_shapes_of_the_demo_model_are_those_of_onnxruntime(role: str, compiled: bool) -> None:
    package = load_package(ENGINES, "demo")
    model = ir.load(package.file(package.manifest.roles[role].graph))
    if compiled:
        parameters = package.manifest.roles[role].parameters.values()
        optimise(model, "fp32", [each.initializer for each in parameters], fusions=())
    assert agrees(model, package.weights_folder(role)) > 50


@pytest.mark.parametrize("name", ["tiny_flux", "tiny_zimage"])
def test_shapes_of_other_families_are_those_of_onnxruntime(
    name: str, request: pytest.FixtureRequest
) -> None:
    package = load_package(request.getfixturevalue(f"{name}_package"), name)
    for role in ("denoiser", "text_encoder"):
        model = ir.load(package.file(package.manifest.roles[role].graph))
        assert agrees(model, package.weights_folder(role)) > 50


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g (float[B, 6, 8] x) => (y) { y = com.microsoft.BiasSplitGelu (x, x) }", (2, 6, 4)),
        (
            ("g (float[B, 9, 7, 4] x, float[5, 3, 3, 4] w) => (y)"
            "{ y = com.microsoft.NhwcConv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w) }"),
            (2, 5, 4, 5),
        ),
        (
            ("g (float[B, 9, 10, 3, 8] x) => (y)"
            "{ y = com.microsoft.MultiHeadAttention <num_heads = 10> (x) }"),
            (2, 9, 80),
        ),
        (
            ("g (float[B, 9, 80] q, float[B, 7, 80] k, float[B, 7, 40] v) => (y)"
            "{ y = com.microsoft.MultiHeadAttention <num_heads = 10> (q, k, v) }"),
            (2, 9, 40),
        ),
        (
            ("g (float[B, 4, 6] x, float[3, 6] w) => (y)"
            "{ y = com.microsoft.FusedMatMul <transB = 1> (x, w) }"),
            (2, 4, 3),
        ),
    ],
)  # fmt: skip
def test_operators_of_onnxruntime_have_shapes(text: str, expected: tuple[int, ...]) -> None:
    assert shapes(text, B=2)["y"] == expected


def test_the_sum_of_a_skip_norm_has_the_shape_of_its_input() -> None:
    found = shapes(
        "g (float[B, 5, 8] x, float[B, 5, 8] s, float[8] w) => (y, sum)"
        "{ y, mean, deviation, sum = com.microsoft.SkipLayerNormalization (x, s, w) }",
        B=3,
    )
    assert found["y"] == found["sum"] == (3, 5, 8)
    assert found["mean"] == (3, 5, 1)


def test_numbers_are_followed_through_the_arithmetic_of_shapes() -> None:
    found = shapes(
        """g (float[B, 4, H] x) => (y) <int64[1] two = {2}, int64[1] rest = {-1}> {
            width = Shape <start = 2, end = 3> (x)
            half = Div (width, two)
            target = Concat <axis = 0> (half, rest)
            y = Reshape (x, target)
        }""",
        B=3,
        H=10,
    )
    assert found["y"] == (5, 24)


def test_an_extent_of_multiples_is_the_axis_itself() -> None:
    model = graph("g (float[batch] x) => (y) { y = Relu (x) }")
    model.graph.inputs[0].shape = ir.Shape(["batch", "4*height_4"])
    assert shapes_at(model, {"batch": 1, "height": 12}) == {"x": (1, 12)}
    with pytest.raises(BuildError, match="height = 10: expected a multiple of 4"):
        shapes_at(model, {"batch": 1, "height": 10})
    with pytest.raises(BuildError, match="give one for 'height'"):
        shapes_at(model, {"batch": 1})


def test_an_operator_without_a_rule_is_named_with_its_node() -> None:
    with pytest.raises(BuildError, match=r"Det .*no rule.*shape_rules"):
        shapes("g (float[B, 4, 4] x) => (y) { y = Det (x) }", B=2)


def test_shapes_that_do_not_fit_are_named_with_their_node() -> None:
    with pytest.raises(BuildError, match=r"MatMul .*inner extents differ"):
        shapes("g (float[B, 4] x, float[5, 3] w) => (y) { y = MatMul (x, w) }", B=2)


def test_a_shape_that_depends_on_numbers_of_an_input_is_refused() -> None:
    with pytest.raises(BuildError, match="numbers of input 1 are unknown"):
        shapes("g (float[B, 4] x, int64[2] s) => (y) { y = Reshape (x, s) }", B=2)

"""The part that depends on the conditioning alone, split off: the two graphs compute as one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
import onnxruntime
import pytest

from engine_build.target.capture import Call
from engine_build.target.onnxruntime_cuda.compiler import optimise
from engine_build.target.onnxruntime_cuda.definitions import define_operators
from engine_build.target.onnxruntime_cuda.prelude import split_conditioning, split_prelude
from engine_build.target.onnxruntime_cuda.variants import write_variants
from engine_build.target.reference import Reference
from runtime.backends.onnxruntime.cpu import open_session
from runtime.package.manifest import ModelPackage, load_package
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, operators
from tests.tiny.lora_packs import ENGINES

Arrays = Mapping[str, np.ndarray]

ATTENDING = """
cross (float[N, C] latents, float[R] mix, float[R, T, 4] text, float[4, 6] key)
    => (float[P, Q] answer)
{
    known = Identity (key)
    keys = MatMul (text, known)
    count = Shape <start = 0, end = 1> (mix)
    size = Constant <value_ints = [-1]> ()
    shape = Concat <axis = 0> (count, size)
    flat = Reshape (keys, shape)
    extent = Shape (text)
    whole = ReduceProd <keepdims = 0> (extent)
    number = Cast <to = 1> (whole)
    scaled = Mul (latents, number)
    answer = MatMul (scaled, flat)
}
"""
KEY = np.arange(24, dtype=np.float32).reshape(4, 6)


def typed(text: str, **constants: np.ndarray) -> ir.Model:
    """A graph whose values have their dtypes and shapes, as those that are split."""
    model = graph(text, **constants)
    return passes.ShapeInferencePass()(model).model


def names(values: list[ir.Value]) -> list[str]:
    return [str(value.name) for value in values]


def test_products_of_the_conditioning_are_moved_with_what_depends_on_them() -> None:
    model = typed(ATTENDING, key=KEY)
    prelude = split_prelude(model, {"text"})
    assert prelude is not None
    # The number of evaluations, which the step reads of `mix`, is the text's first extent as well.
    assert names(list(prelude.graph.inputs)) == ["text"]
    assert names(list(prelude.graph.outputs)) == ["flat"]
    assert "MatMul" in operators(prelude)
    assert operators(model) == ["Shape", "ReduceProd", "Cast", "Mul", "MatMul"]
    # The text stays an input for its shape; whatever no graph reads stays where it was.
    assert names(list(model.graph.inputs)) == ["latents", "mix", "text", "flat"]
    (made,) = prelude.graph.outputs
    given = model.graph.inputs[-1]
    assert (given.dtype, given.shape) == (made.dtype, made.shape)
    assert set(prelude.graph.initializers) >= {"key"}
    assert "key" not in model.graph.initializers


def test_an_input_that_the_prelude_alone_reads_leaves_the_graph() -> None:
    text = """
    g (float[2] x, float[2, 2] c, float[2, 2] w) => (float[2] y, float[2, 2] z) {
        made = MatMul (c, w)
        y = MatMul (made, x)
        z = Add (made, w)
    }
    """
    model = typed(text, w=np.eye(2, dtype=np.float32))
    prelude = split_prelude(model, {"c"})
    assert prelude is not None
    assert names(list(model.graph.inputs)) == ["x", "made"]
    # `z` depends on the conditioning alone, but a graph's own outputs are made by the graph.
    assert operators(model) == ["MatMul", "Add"]
    assert "w" in prelude.graph.initializers
    assert "w" in model.graph.initializers


@pytest.mark.parametrize(
    "body",
    [
        "made = Add (c, c)  y = Mul (made, x)",
        "made = MatMul (c, x)  y = Mul (made, x)",
        "y = MatMul (c, c)",
    ],
    ids=["no product", "a product with the picture", "the answer"],
)
def test_a_graph_without_such_products_stays_as_it_was(body: str) -> None:
    model = typed(f"g (float[2, 2] x, float[2, 2] c) => (float[2, 2] y) {{ {body} }}")
    before = ir.to_proto(model)
    assert split_prelude(model, {"c"}) is None
    assert ir.to_proto(model) == before


@pytest.fixture(scope="module")
def demo() -> ModelPackage:
    return load_package(ENGINES, "demo")


def optimised(package: ModelPackage) -> ir.Model:
    record = package.manifest.roles["denoiser"]
    model = ir.load(package.file(record.graph))
    optimise(model, "fp32", [each.initializer for each in record.parameters.values()])
    return model


def run(model: ir.Model, package: ModelPackage, given: Arrays) -> dict[str, np.ndarray]:
    """The outputs of a graph, which reads its inputs out of those that are given."""
    define_operators(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    content = ir.to_proto(model).SerializeToString()
    session = open_session(content, options, package.weights_folder("denoiser"))
    read = {*session.get_inputs(), *session.get_overridable_initializers()}
    inputs = {each.name: given[each.name] for each in read if each.name in given}
    outputs = [each.name for each in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, inputs), strict=True))


def first_call(package: ModelPackage) -> Call:
    return Reference(package, [(64, 96)]).calls["denoiser"][0]


@pytest.mark.parametrize("name", ["demo", "tiny_flux", "tiny_zimage"])
def test_prelude_and_rest_compute_what_the_graph_did(
    name: str, demo: ModelPackage, request: pytest.FixtureRequest
) -> None:
    package = demo
    if name != "demo":
        package = load_package(request.getfixturevalue(f"{name}_package"), name)
    inputs = first_call(package).inputs
    expected = run(optimised(package), package, inputs)
    rest = optimised(package)
    whole = len(list(rest.graph))
    prelude = split_conditioning(rest, package.manifest.roles["denoiser"])
    assert prelude is not None
    assert len(list(rest.graph)) < whole
    found = run(rest, package, {**inputs, **run(prelude, package, inputs)})
    assert found.keys() == expected.keys()
    for output, values in expected.items():
        np.testing.assert_array_equal(found[output], values)


def test_a_replaced_key_of_cross_attention_changes_what_it_did(
    demo: ModelPackage, tmp_path: Path
) -> None:
    record = demo.manifest.roles["denoiser"]
    inputs = first_call(demo).inputs
    name = next(each.initializer for key, each in record.parameters.items() if "attn2.to_k" in key)
    weight = demo.tensors("denoiser")[name]
    replaced = {name: np.flip(weight.values, axis=0).copy()}

    def variant(model: ir.Model, file: str) -> ir.Model:
        (tmp_path / file).write_bytes(ir.to_proto(model).SerializeToString())
        return ir.load(tmp_path / write_variants(tmp_path / file, record)["matrices"].file)

    expected = run(variant(optimised(demo), "whole.onnx"), demo, {**inputs, **replaced})
    rest = optimised(demo)
    prelude = split_conditioning(rest, record)
    assert prelude is not None
    assert name in prelude.graph.initializers
    assert name not in rest.graph.initializers
    made = run(variant(prelude, "prelude.onnx"), demo, {**inputs, **replaced})
    found = run(variant(rest, "rest.onnx"), demo, {**inputs, **made})
    own = run(optimised(demo), demo, inputs)
    for output, values in expected.items():
        np.testing.assert_array_equal(found[output], values)
        assert not np.allclose(values, own[output], atol=1e-4)


def test_a_network_of_another_kind_has_no_prelude(demo: ModelPackage) -> None:
    record = demo.manifest.roles["text_encoder"]
    assert split_conditioning(ir.load(demo.file(record.graph)), record) is None

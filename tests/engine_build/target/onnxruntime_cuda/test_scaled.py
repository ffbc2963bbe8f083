"""That a scaled stream gives the same picture, bit by bit, and that fp16 then holds what it did
not."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from engine_build.target.capture import Call
from engine_build.target.onnxruntime_cuda.compiler import compile_role
from engine_build.target.onnxruntime_cuda.definitions import define_operators
from engine_build.target.onnxruntime_cuda.scaled import scale_stream, stream
from engine_build.target.unfused import CPU, UnfusedSession, graph_file, session_options
from engine_build.target.verify import check_engine
from runtime.backends.protocol import Array
from runtime.package.manifest import ModelPackage, load_package
from tests.engine_build.target.onnxruntime_cuda.graphs import graph, run
from tests.engine_build.target.onnxruntime_cuda.loud import VAE, loud
from tests.engine_build.target.rounding import rounded
from tests.tiny.lora_packs import ENGINES

DRAWS = np.random.default_rng(1)
LATENTS = DRAWS.standard_normal((1, 4, 8, 12)).astype(np.float32)


@pytest.fixture(params=["demo", "tiny"])
def package(request: pytest.FixtureRequest) -> ModelPackage:
    """Trained, without attention; and with attention, of random weights."""
    if request.param == "demo":
        return load_package(ENGINES, "demo")
    return load_package(request.getfixturevalue("tiny_package"), "tiny")


def colours(package: ModelPackage, exponent: int) -> Array:
    """The last convolution's output, before it is made 8 bits."""
    model = ir.load(graph_file(package, VAE))
    scale_stream(model, exponent)
    last = [node.outputs[0] for node in model.graph if node.op_type == "Conv"][-1]
    model.graph.outputs.append(last)
    session = UnfusedSession(VAE, model, package.weights_folder(VAE), CPU)
    return session.run({"latents": LATENTS})[str(last.name)]


@pytest.mark.parametrize("exponent", [1, 3, 8])
def test_no_bit_of_a_decoder_s_answer_changes_in_fp32(package: ModelPackage, exponent: int) -> None:
    np.testing.assert_array_equal(colours(package, exponent), colours(package, 0))


def test_all_products_but_those_of_attention_and_the_last_one_make_the_stream(
    package: ModelPackage,
) -> None:
    model = ir.load(graph_file(package, VAE))
    found = stream(model.graph)
    left = [
        node.op_type
        for node in model.graph
        if node.op_type in ("Conv", "MatMul") and node.outputs[0] not in found
    ]
    attention = ["MatMul"] * 5  # query, key, value; scores and their sums
    assert left == [*(attention * ("Softmax" in {node.op_type for node in model.graph})), "Conv"]


def test_initializers_stay_what_they_are(package: ModelPackage) -> None:
    before, after = (ir.load(graph_file(package, VAE)) for _ in range(2))
    scale_stream(after, 2)
    names = {each.initializer for each in package.manifest.roles[VAE].parameters.values()}
    for name in names:
        ours, theirs = after.graph.initializers[name], before.graph.initializers[name]
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)


def in_fp16(package: ModelPackage, exponent: int, folder: Path, call: Call) -> dict[str, Array]:
    """The compiled graph's answer, every value rounded to fp16 where it is made."""
    compiled = compile_role(package, VAE, "fp16", folder, exponent)
    model = rounded(ir.load(compiled.path), ir.DataType.FLOAT16)
    define_operators(model)
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), session_options(package.weights_folder(VAE))
    )
    return {"image": session.run(["image"], dict(call.inputs))[0]}


def test_what_overflows_in_fp16_is_a_picture_with_a_scaled_stream(
    package: ModelPackage, tmp_path: Path
) -> None:
    """As with the published VAE of SDXL, whose pictures are black in fp16."""
    largest = {"demo": 2**10, "tiny": 2**15}[package.path.name]
    folder = tmp_path / "loud"
    folder.mkdir()
    louder = loud(package, largest, folder)
    inputs = {"latents": LATENTS}
    call = Call(inputs, UnfusedSession.of_role(louder, VAE, CPU).run(inputs))
    assert not in_fp16(louder, 0, tmp_path, call)["image"].any()
    check = check_engine([call], lambda _: in_fp16(louder, 6, tmp_path, call), "fp16")
    assert check.passed, check


WEIGHT = DRAWS.standard_normal((4, 4)).astype(np.float32)
ONES, ZEROS = np.ones(4, np.float32), np.zeros(4, np.float32)
ROWS = DRAWS.standard_normal((2, 4, 4)).astype(np.float32)


def normed(body: str) -> ir.Model:
    """Rows `x [2, 4, 4]` by `body` to `y`, which is normed."""
    return graph(
        f"""
        g (float[2, 4, 4] x, float[4, 4] w, float[4] b, float[4] one, float[4] zero)
            => (float[2, 4, 4] z)
        <float[2, 4, 4] a, float[2, 4, 4] y, float[2, 4, 4] s>
        {{
            {body}
            z = InstanceNormalization <epsilon = 0.5> (y, one, zero)
        }}
        """,
        w=WEIGHT,
        b=ONES,
        one=ONES,
        zero=ZEROS,
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = MatMul(x, w) y = Add(a, b)", {"a", "y"}),
        ("a = MatMul(x, w) y = Add(b, a)", {"a", "y"}),
        ("a = MatMul(w, x) y = MatMul(a, w)", {"a", "y"}),
        ("a = MatMul(x, w) y = Mul(b, a)", {"a", "y"}),
        ("a = MatMul(x, w) s = MatMul(x, w) y = Add(a, s)", {"a", "s", "y"}),
        # The norm reads what nobody can scale.
        ("a = MatMul(x, w) y = Add(a, x)", set()),
        ("a = MatMul(x, w) y = Mul(a, a)", set()),
        ("a = MatMul(x, w) y = MatMul(a, a)", set()),
        ("a = MatMul(x, w) y = Sigmoid(a)", set()),
        ("a = MatMul(x, w) y = Div(b, a)", set()),
        # Something else reads the stream in its full size.
        ("a = MatMul(x, w) s = Sigmoid(a) y = Add(a, s)", set()),
        ("a = MatMul(x, w) s = Sigmoid(a) y = MatMul(s, w)", {"y"}),
    ],
)
def test_the_stream_is_what_products_feed_and_norms_alone_read(
    body: str, expected: set[str]
) -> None:
    model = normed(body)
    assert {value.name for value in stream(model.graph)} == expected
    (plain,) = run(model, ROWS)
    scale_stream(model, 3)
    np.testing.assert_array_equal(run(model, ROWS)[0], plain)
    (norm,) = (node for node in model.graph if node.op_type == "InstanceNormalization")
    epsilon = norm.attributes["epsilon"].as_float()
    assert epsilon == (0.5 / 64 if "y" in expected else 0.5)


def test_what_leaves_the_graph_is_not_scaled() -> None:
    model = normed("a = MatMul(x, w) y = Add(a, b)")
    model.graph.outputs.append(next(iter(model.graph)).outputs[0])
    assert not stream(model.graph)


def test_an_exponent_of_0_leaves_a_graph_alone() -> None:
    model = normed("a = MatMul(x, w) y = Add(a, b)")
    before = ir.to_proto(model).SerializeToString()
    scale_stream(model, 0)
    assert ir.to_proto(model).SerializeToString() == before

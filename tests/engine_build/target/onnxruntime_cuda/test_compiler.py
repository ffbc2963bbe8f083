"""Fusions in real graphs, and all that must not change: names, inputs, weights that LoRAs reach."""

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from engine_build.target.onnxruntime_cuda.compiler import (
    COUNTS,
    CompiledGraph,
    compile_role,
    compiled_graphs,
)
from engine_build.target.onnxruntime_cuda.definitions import define_operators
from engine_build.target.onnxruntime_cuda.variants import write_variants
from runtime.backends.onnxruntime.cpu import OnnxEngine, open_session
from runtime.package.manifest import ModelPackage, Precision, load_package
from runtime.package.tensors import Tensor
from tests.tiny.lora_packs import ENGINES

Compiled = dict[str, CompiledGraph]

ROLES = ("denoiser", "text_encoder", "text_encoder_2", "vae_decoder", "preview_decoder")

# The demo's transformers are narrower than any that CUDA's kernel of GEGLU takes. CLIP's first norm
# reads the sum of fp32 tables, and its last one is an answer in fp32.
UNFUSED = {
    "denoiser": {"GEGLU": 11, "bias of a product": 11},
    "text_encoder": {"bias of a product": 3, "layer norm in fp32": 1},
    "text_encoder_2": {"bias of a product": 3, "layer norm in fp32": 2},
}


@pytest.fixture(scope="module")
def demo() -> ModelPackage:
    return load_package(ENGINES, "demo")


@pytest.fixture(scope="module")
def compiled(demo: ModelPackage, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Each role in its own precision."""
    folder = tmp_path_factory.mktemp("compiled")
    return {
        role: compile_role(demo, role, record.precision, folder)
        for role, record in demo.manifest.roles.items()
    }


def counts(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in ir.load(path).graph)


@pytest.mark.parametrize("role", ROLES)
def test_all_that_can_be_fused_is_fused_counted_and_recorded(
    demo: ModelPackage, role: str, compiled: Compiled
) -> None:
    plain = counts(demo.file(demo.manifest.roles[role].graph))
    found = compiled[role]
    fused = Counter(found.fused)
    assert fused["MultiHeadAttention"] == plain["Softmax"]
    assert fused["GroupNorm"] + fused["SkipGroupNorm"] == plain["InstanceNormalization"]
    assert fused["NhwcConv"] == plain["Conv"]
    assert dict(found.unfused) == UNFUSED.get(role, {})
    assert json.loads(ir.load(found.path).metadata_props[COUNTS]) == {
        "fused": found.fused,
        "unfused": found.unfused,
        "uncaptured": [],
    }


@pytest.mark.parametrize(
    "name", ["tiny", "tiny_flux", "tiny_schnell", "tiny_chroma", "tiny_zimage"]
)
def test_no_role_of_any_family_holds_what_cannot_be_captured(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One node would be enough, and the network would run without a CUDA graph."""
    package = load_package(request.getfixturevalue(f"{name}_package"), name)
    for role, record in package.manifest.roles.items():
        for precision in {record.precision, "fp32"}:
            compiled = compile_role(package, role, precision, tmp_path)
            assert compiled.uncaptured == (), (role, precision)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_transformer_s_attention_is_fused(
    tiny_flux_package: Path, precision: Precision, tmp_path: Path
) -> None:
    package = load_package(tiny_flux_package, "tiny_flux")
    plain = counts(package.file(package.manifest.roles["denoiser"].graph))
    compiled = compile_role(package, "denoiser", precision, tmp_path)
    assert compiled.fused["MultiHeadAttention"] == plain["Softmax"] > 0
    assert "attention" not in compiled.unfused
    attended = {
        value.dtype
        for node in ir.load(compiled.path).graph
        if node.op_type == "MultiHeadAttention"
        for value in (*node.inputs[:3], node.outputs[0])
        if value is not None
    }
    # A rotation of queries and keys is in fp32, and what comes of it is not.
    assert attended == {ir.DataType.FLOAT16 if precision == "fp16" else ir.DataType.BFLOAT16}
    # A check on the CPU is of fp32: dtypes that do not fit together in 16 bits are found here.
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    model = ir.load(compiled.path)
    define_operators(model)
    content = ir.to_proto(model).SerializeToString()
    with suppress(NoKernel):
        open_session(content, options, package.weights_folder("denoiser"))


def test_what_has_no_kernel_for_bf16_stays_as_it_was(demo: ModelPackage, tmp_path: Path) -> None:
    plain = counts(demo.file(demo.manifest.roles["denoiser"].graph))
    compiled = compile_role(demo, "denoiser", "bf16", tmp_path)
    assert compiled.fused["MultiHeadAttention"] == plain["Softmax"]
    assert compiled.unfused["group norm"] == plain["InstanceNormalization"]
    assert compiled.unfused["convolution"] == plain["Conv"]
    resized = [node for node in ir.load(compiled.path).graph if node.op_type == "Resize"]
    assert [node.inputs[0].dtype for node in resized if node.inputs[0]] == [ir.DataType.FLOAT] * 2


def test_pictures_are_moved_only_where_they_come_in_or_go_out(
    demo: ModelPackage, compiled: Compiled
) -> None:
    """Next to weights, of which each is arranged once."""
    (moved,) = (
        node.inputs[0]
        for node in ir.load(compiled["vae_decoder"].path).graph
        if node.op_type == "Transpose" and not reads_weight(node)
    )
    assert moved is not None
    assert moved.shape is not None
    assert moved.shape[1] == demo.manifest.latents.channels


def reads_weight(node: ir.Node) -> bool:
    value = node.inputs[0]
    while value is not None and value.producer() is not None:
        value = value.producer().inputs[0]
    return value is not None and value.is_initializer()


@pytest.mark.parametrize("role", ROLES)
def test_weights_keep_their_names_dtypes_and_places(
    demo: ModelPackage, role: str, compiled: Compiled
) -> None:
    record = demo.manifest.roles[role]
    before = ir.load(demo.file(record.graph)).graph.initializers
    found = compiled[role]
    after = {
        name: value
        for graph in compiled_graphs(found.path.parent, role)
        for name, value in ir.load(graph).graph.initializers.items()
    }
    for parameter in record.parameters.values():
        assert describe(after[parameter.initializer]) == describe(before[parameter.initializer])


def describe(value: ir.Value) -> tuple[object, ...]:
    tensor = value.const_value
    assert isinstance(tensor, ir.ExternalTensor)
    return tensor.location, tensor.offset, tensor.length, tensor.dtype, tuple(tensor.shape)


@pytest.mark.parametrize("role", ROLES)
def test_inputs_are_what_the_manifest_says(
    demo: ModelPackage, role: str, compiled: Compiled
) -> None:
    record = demo.manifest.roles[role]
    expected = {
        name: (
            each.dtype,
            tuple(-1 if isinstance(extent, str) else extent for extent in each.shape),
        )
        for name, each in record.inputs.items()
    }
    assert {
        name: (each.dtype, each.shape) for name, each in compiled[role].inputs.items()
    } == expected
    plain = ir.load(demo.file(record.graph)).graph.outputs
    assert list(compiled[role].outputs) == [value.name for value in plain]


def test_replaced_weights_reach_the_fused_graph(demo: ModelPackage, tmp_path: Path) -> None:
    """As the runtime replaces them, by name and in the dtype that they are stored in."""
    record = demo.manifest.roles["text_encoder"]
    compiled = compile_role(demo, "text_encoder", "fp32", tmp_path)
    name, parameter = next(
        (name, each)
        for name, each in record.parameters.items()
        if name.endswith("layers.0.self_attn.v_proj.weight")
    )
    random = np.random.default_rng(1).normal(size=parameter.shape).astype(np.float16)
    weights = {parameter.initializer: Tensor("F16", random)}
    inputs = {"input_ids": np.arange(32)[None], "layer": np.array([2])}
    engine = OnnxEngine(demo, "text_encoder", threads=1)
    plain = engine.run(inputs)
    engine.replace_weights(weights)
    expected = engine.run(inputs)
    found = run_with(compiled, demo, inputs, {parameter.initializer: random})
    for output, value in expected.items():
        np.testing.assert_allclose(found[output], value, atol=1e-4 * float(np.abs(value).max()))
        assert not np.allclose(value, plain[output], atol=1e-2), name


def run_with(
    compiled: CompiledGraph,
    package: ModelPackage,
    inputs: dict[str, np.ndarray],
    weights: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    variants = write_variants(compiled.path, package.manifest.roles["text_encoder"])
    assert list(variants) == ["matrices"]
    model = ir.load(compiled.path.with_name(variants["matrices"].file))
    define_operators(model)
    folder = package.weights_folder("text_encoder")
    content = ir.to_proto(model).SerializeToString()
    session = open_session(content, onnxruntime.SessionOptions(), folder)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {**inputs, **weights}), strict=True))


def test_outputs_that_none_reads_are_left_out(compiled: Compiled) -> None:
    """A kernel writes every output that has a name: means and deviations, and sums."""
    for node in ir.load(compiled["denoiser"].path).graph:
        if node.op_type in {"SkipLayerNormalization", "SkipGroupNorm"}:
            named = [bool(value.name) for value in node.outputs]
            read = [bool(value.uses()) for value in node.outputs]
            assert named == read

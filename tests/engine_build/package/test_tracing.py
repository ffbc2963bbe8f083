"""Graphs without weights in them: names, layout and precision are the checkpoint's own."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from benchmarks.tiny.models import SourceOptions, save_source
from engine_build.checkpoint.weights import match_parameters
from engine_build.package.tracing import parameter_shapes, trace
from engine_build.package.verify import check_graph, output_error, run_graph
from engine_build.quiet import quiet
from runtime.package.manifest import Manifest, load_package
from tests.engine_build.package.roles import export, role_of

DTYPES = {
    torch.float16: ("F16", onnx.TensorProto.FLOAT16),
    torch.bfloat16: ("BF16", onnx.TensorProto.BFLOAT16),
}


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def narrow(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, torch.dtype]:
    """A text encoder stored in 16 bits: its source, its graph, its dtype."""
    folder = tmp_path_factory.mktemp("narrow")
    options = SourceOptions(shallow=True, dtype=request.param, preview_decoder=False)
    source = save_source(folder / "source", options)
    return source, export(role_of(source, "text_encoder"), folder), request.param


def test_weights_stay_as_they_were_stored(narrow: tuple[Path, Path, torch.dtype]) -> None:
    source, graph, dtype = narrow
    model = onnx.load(graph, load_external_data=False)
    stored = role_of(source, "text_encoder").component.checkpoint.tensors
    external = [item for item in model.graph.initializer if item.external_data]
    assert len(external) > 60
    for item in external:
        assert item.data_type == DTYPES[dtype][1]
        tensor = stored.get(item.name) or stored[item.name.removeprefix("text_model.")]
        assert tuple(item.dims) == tensor.shape
        place = {entry.key: entry.value for entry in item.external_data}
        raw = (graph.parent / place["location"]).read_bytes()
        copied = raw[int(place["offset"]) :][: int(place["length"])]
        original = tensor.path.read_bytes()[tensor.offset :][: tensor.size_bytes]
        assert copied == original


def test_stored_weights_are_widened_before_anything_computes(
    narrow: tuple[Path, Path, torch.dtype],
) -> None:
    _, graph, _ = narrow
    model = onnx.load(graph, load_external_data=False)
    external = {item.name for item in model.graph.initializer if item.external_data}
    transposes = [node for node in readers_of(model, external) if node.op_type == "Transpose"]
    narrow = external | {node.output[0] for node in transposes}
    casts = [node for node in readers_of(model, narrow) if node.op_type != "Transpose"]
    assert {node.op_type for node in casts} == {"Cast"}
    assert all(node.attribute[0].i == onnx.TensorProto.FLOAT for node in casts)
    assert len(casts) == len(external)
    assert len(transposes) > 20


def readers_of(model: onnx.ModelProto, names: set[str]) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if names & set(node.input)]


def test_onnx_runtime_folds_the_widening_away(
    narrow: tuple[Path, Path, torch.dtype], tmp_path: Path
) -> None:
    _, graph, _ = narrow
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx")
    names = {item.name for item in optimised.graph.initializer}
    read = {node.op_type for node in readers_of(optimised, names)}
    assert not read & {"Cast", "Transpose"}


def test_sixteen_bit_weights_give_what_pytorch_gives_in_fp32(
    narrow: tuple[Path, Path, torch.dtype],
) -> None:
    source, graph, _ = narrow
    check = check_graph(role_of(source, "text_encoder"), graph)
    assert check.outputs.keys() == {"hidden_states"}
    assert check.largest_error < 1e-5


@pytest.fixture(scope="module")
def manifest(tiny_package: Path) -> Manifest:
    return load_package(tiny_package, "tiny").manifest


def test_a_graph_is_small_and_reads_every_weight_from_its_file(
    tiny_package: Path, manifest: Manifest
) -> None:
    for role in manifest.roles.values():
        model = onnx.load(tiny_package / "tiny" / role.graph, load_external_data=False)
        onnx.checker.check_model(tiny_package / "tiny" / role.graph)
        external = {item.name: item for item in model.graph.initializer if item.external_data}
        inside = [item for item in model.graph.initializer if not item.external_data]
        assert external.keys() == {item.initializer for item in role.parameters.values()}
        assert sum(len(item.raw_data) for item in inside) < 200_000, role.graph
        assert not any(node.op_type.startswith("Sequence") for node in model.graph.node)
        for parameter in role.parameters.values():
            assert tuple(external[parameter.initializer].dims) == parameter.shape


@pytest.mark.parametrize("role", ["denoiser", "text_encoder", "text_encoder_2"])
def test_every_linear_and_convolution_weight_is_mapped(
    tiny_source: Path, manifest: Manifest, role: str
) -> None:
    export_of_role = role_of(tiny_source, role)
    prefix = "text_model." if role == "text_encoder" else ""
    weights = {
        f"{prefix}{name}.weight": tuple(module.weight.shape)
        for name, module in export_of_role.load().named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    mapped = {name: item.shape for name, item in manifest.roles[role].parameters.items()}
    assert len(weights) > 20
    assert weights.items() <= mapped.items()


def test_names_are_the_published_ones(manifest: Manifest) -> None:
    """LoRA files name what SDXL's published checkpoints name."""
    assert "text_model.encoder.layers.0.self_attn.q_proj.weight" in (
        manifest.roles["text_encoder"].parameters
    )
    assert "text_model.encoder.layers.0.self_attn.q_proj.weight" in (
        manifest.roles["text_encoder_2"].parameters
    )
    assert "text_projection.weight" in manifest.roles["text_encoder_2"].parameters
    assert "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight" in (
        manifest.roles["denoiser"].parameters
    )
    assert not any(name.startswith("encoder.") for name in manifest.roles["vae_decoder"].parameters)


CHANGED = {
    "denoiser": (
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight",
        "mid_block.resnets.0.conv1.weight",
        "add_embedding.linear_1.weight",
    ),
    "text_encoder_2": ("text_model.encoder.layers.1.mlp.fc1.weight", "text_projection.weight"),
}


@pytest.mark.parametrize(
    ("role", "name"), [(role, name) for role, names in CHANGED.items() for name in names]
)
def test_a_weight_that_is_changed_in_the_graph_is_changed_as_in_pytorch(
    tiny_source: Path, tiny_package: Path, manifest: Manifest, role: str, name: str
) -> None:
    """Another tensor for one initializer, given to ONNX Runtime as a LoRA does."""
    chosen = role_of(tiny_source, role)
    inputs = chosen.draw_inputs(chosen.checked_at[0], seed=5)
    parameter = manifest.roles[role].parameters[name]
    other = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9)) * 0.2

    network = chosen.load()
    network.get_parameter(name).data.copy_(other)
    with torch.no_grad():
        answer = chosen.wrap(network)(*inputs.values())

    feeds = {key: value.numpy() for key, value in inputs.items()}
    graph = tiny_package / "tiny" / manifest.roles[role].graph
    found = run_with(graph, {parameter.initializer: other.numpy()}, feeds)
    untouched = run_graph(graph, [feeds])[0]
    for key, expected in zip(chosen.outputs, answer, strict=True):
        assert output_error(expected.numpy(), found[key]) < 1e-5
    assert any(output_error(found[key], untouched[key]) > 1e-3 for key in chosen.outputs)


def run_with(
    graph: Path, weights: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
    options.add_external_initializers(list(weights), values)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


@pytest.mark.parametrize("clip_skip", [0, 1, 2])
def test_layers_count_from_the_end_as_in_diffusers(
    tiny_source: Path, tiny_package: Path, manifest: Manifest, clip_skip: int
) -> None:
    chosen = role_of(tiny_source, "text_encoder")
    ids = chosen.draw_inputs(chosen.checked_at[1], seed=3)["input_ids"]
    with torch.no_grad():
        states = chosen.load()(ids, output_hidden_states=True).hidden_states
    assert manifest.limits.max_clip_skip == len(states) - 2
    feeds = {"input_ids": ids.numpy(), "layer": np.array([-(clip_skip + 2)])}
    found = run_graph(tiny_package / "tiny" / manifest.roles["text_encoder"].graph, [feeds])[0]
    assert output_error(states[-(clip_skip + 2)].numpy(), found["hidden_states"]) < 1e-5


def test_tracing_holds_no_weights(tiny_source: Path) -> None:
    """Every parameter of the graph is still without a value when it has been traced."""
    role = role_of(tiny_source, "text_encoder")
    with quiet():
        traced = trace(role)
    for initializer in traced.parameters.values():
        assert traced.model.graph.initializers[initializer].const_value is None
    matched = match_parameters(
        parameter_shapes(role), role.parameter_names, role.component.checkpoint
    )
    unread = matched.keys() - traced.parameters.keys()
    # The first encoder's pooled text is not used, so neither is the norm before it.
    assert unread == {"final_layer_norm.weight", "final_layer_norm.bias"}

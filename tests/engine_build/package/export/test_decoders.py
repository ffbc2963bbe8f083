"""Previews that are decoded at the size they are shown."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from engine_build.checkpoint.sources import open_preview_decoder
from engine_build.package.export.decoders import (
    AveragedConvolution,
    halvings_of_previews,
    preview_decoder,
)
from engine_build.package.export.role import RoleExport
from engine_build.package.verify import check_graph
from examples.demo_model.models import build_preview_decoder
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.protocol import Array
from runtime.draw.generate import Generator
from runtime.errors import SourceError
from runtime.package.manifest import ModelPackage, load_package
from runtime.plan.model import model_of
from tests.engine_build.package.roles import export
from tests.tiny.lora_packs import ENGINES


@pytest.mark.parametrize(
    ("longest", "expected"), [(64, 0), (512, 0), (768, 0), (1024, 1), (1216, 1), (2048, 2)]
)
def test_previews_of_the_package_s_own_size_are_decoded_no_smaller_than_shown(
    longest: int, expected: int
) -> None:
    assert halvings_of_previews(longest) == expected


@pytest.mark.parametrize("bias", [True, False])
def test_an_averaged_convolution_is_the_mean_of_the_one_behind_a_doubling(*, bias: bool) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, padding=1, bias=bias)
    picture = torch.randn(2, 3, 7, 4)
    doubled = functional.interpolate(picture, scale_factor=2, mode="nearest")
    expected = functional.avg_pool2d(convolution(doubled), 2)
    torch.testing.assert_close(AveragedConvolution(convolution)(picture), expected)


@pytest.fixture(scope="module")
def demo() -> ModelPackage:
    return load_package(ENGINES, "demo")


@pytest.fixture(scope="module")
def trained(demo: ModelPackage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's preview decoder as diffusers saves it."""
    network = build_preview_decoder()
    stored = demo.tensors("preview_decoder")
    weights = {name: torch.from_numpy(tensor.fp32()) for name, tensor in stored.items()}
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.startswith("encoder.") for name in missing)
    folder = tmp_path_factory.mktemp("previews")
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def predicted(demo: ModelPackage) -> list[Array]:
    """Latents that the steps of a picture predicted."""
    model = model_of(demo)
    body = {"prompt": "a red heart on a blue background", "seed": 1, "steps": 6}
    generator = Generator(model, OnnxRuntimeCpu(demo, 1))
    steps = generator.steps(model.plan(model.read(body)))
    return [generator.predicted(event.sample) for event in steps]


def exported(source: Path, longest: int, folder: Path) -> tuple[RoleExport, Path]:
    folder.mkdir()
    role = preview_decoder(open_preview_decoder(source), 4, 128, longest)
    return role, export(role, folder)


def decoded(graph: Path, latents: Array) -> Array:
    session = onnxruntime.InferenceSession(str(graph))
    picture: Array = session.run(["image"], {"latents": latents})[0]
    return picture.astype(np.float64)


def test_halved_previews_are_like_larger_ones_made_smaller(
    trained: Path, predicted: list[Array], tmp_path: Path
) -> None:
    _, whole = exported(trained, 512, tmp_path / "whole")
    _, halved = exported(trained, 1024, tmp_path / "halved")
    for latents in predicted:
        full, half = decoded(whole, latents), decoded(halved, latents)
        height, width = full.shape[1:3]
        averaged = full.reshape(1, height // 2, 2, width // 2, 2, 3).mean(axis=(2, 4))
        assert half.shape == averaged.shape
        ratio = 255**2 / np.mean((half - averaged) ** 2)
        assert 10 * np.log10(ratio) > 25


def test_a_decoder_with_fewer_doublings_than_previews_do_without_is_refused(
    trained: Path, tmp_path: Path
) -> None:
    doublings = len(build_preview_decoder().config["decoder_block_out_channels"]) - 1
    exported(trained, 512 * 2**doublings, tmp_path / "none")
    told = rf"{trained}: .* {doublings} doublings .* at least {doublings + 1},"
    with pytest.raises(SourceError, match=told):
        exported(trained, 512 * 2 ** (doublings + 1), tmp_path / "fewer")


@pytest.mark.parametrize("longest", [1024, 2048])
def test_a_halved_decoder_reads_the_checkpoint_s_own_weights(
    trained: Path, longest: int, tmp_path: Path
) -> None:
    role, graph = exported(trained, longest, tmp_path / "halved")
    check = check_graph(role, graph)
    assert check.largest_error <= check.tolerance
    names = {value.name for value in ir.load(graph).graph.initializers.values()}
    assert "decoder.layers.11.weight" in names


def test_what_an_averaged_convolution_computes_of_weights_is_folded(
    trained: Path, tmp_path: Path
) -> None:
    """The convolutions of CUDA's provider take constant weights alone."""
    _, graph = exported(trained, 1024, tmp_path / "halved")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")
    onnxruntime.InferenceSession(str(graph), options)
    opened = ir.load(tmp_path / "opened.onnx").graph
    for node in opened:
        if node.op_type == "Conv":
            weight = node.inputs[1]
            assert weight is not None
            assert weight.is_initializer()

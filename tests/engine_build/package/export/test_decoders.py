"""Previews that are decoded smaller than their pictures."""

import json
import shutil
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
    FoldedEnd,
    doublings_of_previews,
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
    ("scale_factor", "longest", "side"),
    [
        *[(8, 64, 32), (8, 128, 64), (8, 512, 256), (8, 768, 384), (4, 128, 64)],
        *[(8, 1024, 512), (8, 1216, 608), (16, 1024, 512), (8, 2048, 512), (8, 3072, 768)],
        # No preview has fewer pixels than latents.
        *[(1, 128, 128), (2, 4096, 2048)],
    ],
)
def test_previews_have_half_of_the_side_at_most_and_what_is_shown_at_least(
    scale_factor: int, longest: int, side: int
) -> None:
    doublings = doublings_of_previews(scale_factor, longest)
    assert longest // scale_factor * 2**doublings == side


@pytest.mark.parametrize("bias", [True, False])
def test_an_averaged_convolution_is_the_mean_of_the_one_behind_a_doubling(*, bias: bool) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, padding=1, bias=bias)
    picture = torch.randn(2, 3, 7, 4)
    doubled = functional.interpolate(picture, scale_factor=2, mode="nearest")
    expected = functional.avg_pool2d(convolution(doubled), 2)
    torch.testing.assert_close(AveragedConvolution(convolution)(picture), expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (16, 12)])
def test_a_folded_end_is_the_same_but_for_the_pixels_at_the_edge(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(6, 6, 3, padding=1, bias=False),
        nn.Conv2d(6, 3, 3, padding=1),
    ]
    latents = torch.randn(2, 4, *size)
    expected, found = nn.Sequential(*layers)(latents), FoldedEnd(*layers)(latents)
    assert found.shape == expected.shape
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


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


def exported(source: Path, doublings: int, folder: Path) -> tuple[RoleExport, Path]:
    folder.mkdir()
    role = preview_decoder(open_preview_decoder(source), 4, 128, doublings)
    return role, export(role, folder)


def decoded(graph: Path, latents: Array) -> Array:
    session = onnxruntime.InferenceSession(str(graph))
    picture: Array = session.run(["image"], {"latents": latents})[0]
    return picture.astype(np.float64)


def test_halved_previews_are_like_larger_ones_made_smaller(
    trained: Path, predicted: list[Array], tmp_path: Path
) -> None:
    _, whole = exported(trained, 2, tmp_path / "whole")
    _, halved = exported(trained, 1, tmp_path / "halved")
    for latents in predicted:
        full, half = decoded(whole, latents), decoded(halved, latents)
        height, width = full.shape[1:3]
        averaged = full.reshape(1, height // 2, 2, width // 2, 2, 3).mean(axis=(2, 4))
        assert half.shape == averaged.shape
        ratio = 255**2 / np.mean((half - averaged) ** 2)
        assert 10 * np.log10(ratio) > 25


def test_a_decoder_with_fewer_doublings_is_taken_as_a_whole(
    trained: Path, predicted: list[Array], tmp_path: Path
) -> None:
    _, whole = exported(trained, 2, tmp_path / "whole")
    _, more = exported(trained, 3, tmp_path / "more")
    np.testing.assert_array_equal(decoded(more, predicted[0]), decoded(whole, predicted[0]))


@pytest.mark.parametrize(
    ("setting", "value"), [("upsampling_scaling_factor", 4), ("upsample_fn", "bilinear")]
)
def test_a_decoder_that_enlarges_in_another_way_is_refused(
    trained: Path, setting: str, value: object, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, setting: value}))
    with pytest.raises(SourceError, match=f"{folder}: {setting} is {value}, expected "):
        preview_decoder(open_preview_decoder(folder), 4, 128, 2)


@pytest.mark.parametrize("doublings", [0, 1, 2])
def test_a_smaller_decoder_reads_the_checkpoint_s_own_weights(
    trained: Path, doublings: int, tmp_path: Path
) -> None:
    role, graph = exported(trained, doublings, tmp_path / "smaller")
    check = check_graph(role, graph)
    assert check.largest_error <= check.tolerance
    names = {value.name for value in ir.load(graph).graph.initializers.values()}
    assert {"decoder.layers.8.weight", "decoder.layers.9.weight"} <= names


@pytest.mark.parametrize("doublings", [1, 2])
def test_what_smaller_decoders_compute_of_weights_is_folded(
    trained: Path, doublings: int, tmp_path: Path
) -> None:
    """The convolutions of CUDA's provider take constant weights alone."""
    _, graph = exported(trained, doublings, tmp_path / "smaller")
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

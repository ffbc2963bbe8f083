"""A whole build: what is in a package, and what a build that ends badly leaves."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionXLPipeline
from tokenizers import Tokenizer

import engine_build.package.placing
import engine_build.package.roles
from benchmarks.tiny.models import SourceOptions, save_source
from engine_build.checkpoint.copies import copy_tensors
from engine_build.checkpoint.weights import StoredTensor
from engine_build.package.build import BuildRequest, build_package
from engine_build.package.export.decoders import PreviewDecoder
from engine_build.package.export.role import Choices, TokenizerExport
from engine_build.package.tokenizers import load_tokenizer
from engine_build.package.verify import run_graph
from runtime.errors import BuildError, PackageError
from runtime.package.hashes import HASHES_NAME
from runtime.package.manifest import (
    MANIFEST_NAME,
    Limits,
    Manifest,
    NetworkPreview,
    load_package,
    package_directories,
)

FILES = [
    "denoiser.onnx",
    "denoiser.safetensors",
    "manifest.json",
    "preview_decoder.onnx",
    "preview_decoder.safetensors",
    "text_encoder.onnx",
    "text_encoder.safetensors",
    "text_encoder_2.onnx",
    "text_encoder_2.safetensors",
    "tokenizer.json",
    "tokenizer_2.json",
    "vae_decoder.onnx",
    "vae_decoder.safetensors",
]


@pytest.fixture(scope="module")
def manifest(tiny_package: Path) -> Manifest:
    return load_package(tiny_package, "tiny").manifest


@pytest.fixture(scope="module")
def pipeline(tiny_source: Path) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(tiny_source)


@pytest.fixture(scope="module")
def shallow_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_source(tmp_path_factory.mktemp("sources") / "shallow", SourceOptions(shallow=True))


@pytest.fixture(scope="module")
def shallow_package(shallow_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engines folder with the package `chosen`, for which every choice was made."""
    engines = tmp_path_factory.mktemp("engines")
    choices = Choices(
        max_size=1020, width=96, height=192, steps=8, cfg_scale=3.5, sampler="dpm++_2m"
    )
    request = BuildRequest(
        shallow_source, "chosen", engines, description="A choice.", choices=choices
    )
    assert build_package(request, show_progress=False) == engines / "chosen"
    return engines


def latents(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(0))


def test_a_package_holds_what_the_manifest_lists(tiny_package: Path, manifest: Manifest) -> None:
    there = {path.name for path in (tiny_package / "tiny").iterdir()}
    found = sorted(there - {HASHES_NAME})
    assert found == FILES
    assert sorted(manifest.files) == sorted(set(FILES) - {MANIFEST_NAME})
    assert set(manifest.roles) == {
        "text_encoder",
        "text_encoder_2",
        "denoiser",
        "vae_decoder",
        "preview_decoder",
    }


def test_every_graph_was_checked_and_is_close(manifest: Manifest) -> None:
    outputs = {name: set(role.check.outputs) for name, role in manifest.roles.items()}
    assert outputs == {
        "text_encoder": {"hidden_states"},
        "text_encoder_2": {"hidden_states", "text_embeds"},
        "denoiser": {"next_latents", "next_history", "predicted"},
        "vae_decoder": {"image"},
        "preview_decoder": {"image"},
    }
    for role in manifest.roles.values():
        assert role.check.largest_error == max(role.check.outputs.values())
        assert role.check.largest_error <= role.check.tolerance <= 1 / 255
    assert manifest.roles["denoiser"].check.tolerance == 1e-4
    assert manifest.roles["denoiser"].check.largest_error < 2e-5


def test_the_manifest_states_the_model(tiny_source: Path, manifest: Manifest) -> None:
    raw = json.loads((tiny_source / "scheduler/scheduler_config.json").read_text())
    assert manifest.scheduler == raw
    assert manifest.family == "sdxl"
    assert manifest.family_options == {"force_zeros_for_empty_prompt": True}
    assert manifest.limits == Limits(
        min_size=64,
        max_size=1024,
        multiple_of=32,
        max_batch=16,
        max_evaluations=32,
        max_clip_skip=3,
    )
    assert (manifest.defaults.width, manifest.defaults.height) == (128, 128)
    assert (manifest.defaults.steps, manifest.defaults.cfg_scale) == (20, 7.0)
    assert (manifest.defaults.sampler, manifest.defaults.schedule) == ("euler_a", "default")
    assert (manifest.latents.channels, manifest.latents.scale_factor) == (4, 8)
    assert isinstance(manifest.preview, NetworkPreview)
    assert manifest.source.reference == tiny_source.name
    assert manifest.built_with["torch"].startswith(torch.__version__.partition("+")[0])


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_2"])
def test_a_tokenizer_in_files_of_the_older_kind_is_the_same(
    tiny_source: Path, tmp_path: Path, name: str
) -> None:
    """As SDXL itself is published: vocab.json and merges.txt, with the pad token beside them."""
    saved = json.loads((tiny_source / name / "tokenizer.json").read_text())
    config = json.loads((tiny_source / name / "tokenizer_config.json").read_text())
    vocabulary, merges = saved["model"]["vocab"], saved["model"]["merges"]
    special = {token["content"]: token["id"] for token in saved["added_tokens"]}
    folder = tmp_path / "older"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({**vocabulary, **special}))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines))
    older = {
        "add_prefix_space": False,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": config["pad_token"],
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(older))
    (first, first_record), (second, second_record) = (
        load_tokenizer(TokenizerExport(name, path, 77)) for path in (tiny_source / name, folder)
    )
    assert first_record == second_record
    prompt = "A Photo of a red apple, (highly detailed) 4k's été!"
    assert first.encode(prompt).ids == second.encode(prompt).ids


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_2"])
def test_tokenizers_are_those_of_the_source(
    tiny_package: Path,
    manifest: Manifest,
    pipeline: StableDiffusionXLPipeline,
    name: str,
) -> None:
    record, original = manifest.tokenizers[name], getattr(pipeline, name)
    saved = Tokenizer.from_file(str(tiny_package / "tiny" / record.file))
    prompt = "A Photo of a red apple, (highly detailed) 4k's été"
    ids = saved.encode(prompt, add_special_tokens=False).ids
    framed = [record.begin, *ids, record.end]
    padded = framed + [record.pad] * (record.max_length - len(framed))
    assert padded == original(prompt, padding="max_length", max_length=77).input_ids


def test_the_second_tokenizer_pads_with_an_exclamation_mark(manifest: Manifest) -> None:
    assert manifest.tokenizers["tokenizer"].pad == manifest.tokenizers["tokenizer"].end
    assert manifest.tokenizers["tokenizer_2"].pad == 0


def test_pictures_are_those_of_the_pipeline(
    tiny_package: Path, pipeline: StableDiffusionXLPipeline
) -> None:
    given = latents(10, 14)
    with torch.no_grad():
        decoded = pipeline.vae.decode(given / pipeline.vae.config.scaling_factor).sample
    expected = np.stack(
        [np.asarray(image) for image in pipeline.image_processor.postprocess(decoded)]
    )
    graph = tiny_package / "tiny" / "vae_decoder.onnx"
    (found,) = run_graph(graph, [{"latents": given.numpy()}])
    picture = found["image"]
    assert picture.dtype == np.uint8
    assert picture.shape == expected.shape == (2, 80, 112, 3)
    difference = np.abs(picture.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.99


def test_previews_are_those_of_the_small_decoder_at_half_the_size(
    tiny_source: Path, tiny_package: Path
) -> None:
    given = latents(8, 8)
    network = AutoencoderTiny.from_pretrained(tiny_source / "preview_decoder")
    halved = PreviewDecoder(network, doublings=2)
    with torch.no_grad():
        decoded = halved.network.decode(given).sample
    expected = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    assert expected.shape == (2, 32, 32, 3)
    graph = tiny_package / "tiny" / "preview_decoder.onnx"
    (found,) = run_graph(graph, [{"latents": given.numpy()}])
    assert np.abs(found["image"].astype(int) - expected).max() <= 1


def test_normalised_latents_are_unscaled_as_the_pipeline_does(tmp_path: Path) -> None:
    from engine_build.package.export.latents import LatentScaling

    config = {
        "scaling_factor": 0.5,
        "latents_mean": [1.0, -2.0, 0.5, 0.0],
        "latents_std": [2.0, 1.0, 0.5, 4.0],
    }
    given = latents(4, 4)
    mean, std = (
        torch.tensor(config[key]).view(1, 4, 1, 1) for key in ("latents_mean", "latents_std")
    )
    scaling = LatentScaling.normalised(config)
    torch.testing.assert_close(scaling.to_autoencoder(given), given * std / 0.5 + mean)
    torch.testing.assert_close(scaling.to_denoiser(scaling.to_autoencoder(given)), given)


def test_shifted_latents_are_unscaled_as_the_flow_pipelines_do() -> None:
    from engine_build.package.export.latents import LatentScaling

    given = latents(4, 4)
    scaling = LatentScaling.shifted({"scaling_factor": 0.3611, "shift_factor": 0.1159})
    torch.testing.assert_close(scaling.to_autoencoder(given), given / 0.3611 + 0.1159)
    torch.testing.assert_close(scaling.to_denoiser(scaling.to_autoencoder(given)), given)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_named_when_the_package_is_loaded(
    tiny_package: Path, tmp_path: Path, name: str
) -> None:
    copy = shutil.copytree(tiny_package / "tiny", tmp_path / "tiny")
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(PackageError, match=name.replace(".", r"\.")):
        load_package(tmp_path, "tiny")


def test_choices_are_written_into_the_package(shallow_package: Path) -> None:
    manifest = load_package(shallow_package, "chosen").manifest
    assert manifest.description == "A choice."
    assert (manifest.limits.min_size, manifest.limits.max_size) == (32, 1008)
    assert manifest.limits.multiple_of == 16
    assert (manifest.defaults.width, manifest.defaults.height) == (96, 192)
    assert (manifest.defaults.steps, manifest.defaults.cfg_scale) == (8, 3.5)
    assert manifest.defaults.sampler == "dpm++_2m"


@pytest.mark.parametrize(
    "choices",
    [Choices(width=100, height=128), Choices(max_size=64), Choices(width=8192, height=128)],
    ids=["off the grid", "native size over the maximum", "too large"],
)
def test_default_sizes_that_no_request_could_ask_for_are_refused(
    shallow_source: Path, tmp_path: Path, choices: Choices
) -> None:
    engines = tmp_path / "engines"
    request = BuildRequest(shallow_source, "chosen", engines, choices=choices)
    with pytest.raises(
        BuildError, match=r"sides must be 32 to .* multiples of 16; choose --default"
    ):
        build_package(request, show_progress=False)
    assert not engines.exists()


def test_a_graph_that_differs_from_pytorch_is_never_published(
    shallow_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk hands over other weights than the checkpoint's."""

    def damage(
        tensors: Mapping[str, StoredTensor], target: Path, advance: Callable[[int], object]
    ) -> dict[str, StoredTensor]:
        copied = copy_tensors(tensors, target, advance)
        tensor = copied["text_model.encoder.layers.0.mlp.fc1.weight"]
        with target.open("r+b") as stream:
            stream.seek(tensor.offset)
            stream.write(np.ones(tensor.size_bytes // 4, np.float32).tobytes())
        return copied

    monkeypatch.setattr(engine_build.package.placing, "copy_tensors", damage)
    # A file that the disk can clone would not be copied.
    monkeypatch.setattr(engine_build.package.roles, "clone", lambda *_: False)
    with pytest.raises(BuildError, match="text_encoder: the graph does not match PyTorch"):
        build_package(BuildRequest(shallow_source, "bad", tmp_path), show_progress=False)
    assert list(tmp_path.iterdir()) == []


def start_build(source: Path, engines: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "engine_build", "build", str(source), "--name", "tiny"]
    return subprocess.Popen(
        [*command, "--engines", str(engines)], stderr=subprocess.PIPE, text=True
    )


def kill_at(process: "subprocess.Popen[str]", step: str) -> None:
    """Send SIGKILL as soon as the build says that it begins a step."""
    assert process.stderr is not None
    for line in process.stderr:
        if step in line:
            process.kill()
            break
    process.stderr.close()
    assert process.wait() == -9, f"ended before {step!r}"


KILLED_AT = ["text_encoder: trace", "text_encoder: check", "denoiser: place"]


def test_a_killed_build_leaves_no_package_and_the_next_one_works(
    shallow_source: Path, shallow_package: Path, tmp_path: Path
) -> None:
    for step in KILLED_AT:
        kill_at(start_build(shallow_source, tmp_path), step)
        assert {path.name for path in tmp_path.iterdir()} == {".tiny.building", ".tiny.lock"}
        assert list(package_directories(tmp_path)) == []
        for name in ("tiny", ".tiny.building"):
            with pytest.raises(PackageError):
                load_package(tmp_path, name)
    build_package(BuildRequest(shallow_source, "tiny", tmp_path), show_progress=False)
    assert {path.name for path in tmp_path.iterdir()} == {"tiny"}
    # The very bytes of a build that was left in peace: a digest names a model, not an afternoon.
    built, undisturbed = load_package(tmp_path, "tiny"), load_package(shallow_package, "chosen")
    assert built.manifest.files == undisturbed.manifest.files


def test_a_published_checkpoint_in_halves_is_built_as_it_is(tiny_half_package: Path) -> None:
    manifest = load_package(tiny_half_package, "tiny_half").manifest
    stored: dict[str, Any] = {
        role: {item.dtype for item in record.parameters.values()}
        for role, record in manifest.roles.items()
    }
    assert stored == {role: {"F16"} for role in manifest.roles}
    assert manifest.roles["denoiser"].check.largest_error < 2e-5

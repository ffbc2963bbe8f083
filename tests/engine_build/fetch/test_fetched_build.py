"""From a preset of the user's to a package, all files from hosts on loopback: the one build here
takes a model, a preview decoder and a LoRA."""

from pathlib import Path

import pytest
from diffusers import StableDiffusionXLPipeline

from benchmarks.tiny.models import preview_decoder
from engine_build.cli import run
from runtime.package.manifest import NetworkPreview, load_package
from runtime.package.shelf import LoraShelf
from tests.engine_build.fetch.civitai import VERSION, Published
from tests.engine_build.fetch.hub import COMMIT, files_of, publish
from tests.engine_build.fetch.server import Server
from tests.tiny.lora_files import LoraWriter

LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
PRESET = f"""
source = "owner/rounded"
preview_decoder = "owner/taesd"
description = "A model of the user's"
licence = "MIT"
resolutions = [[128, 96], [64, 64]]

[defaults]
steps = 12
cfg_scale = 5.0
sampler = "ddim"
negative_prompt = "blurry"

[[loras]]
reference = "civitai:{VERSION}"
weight = 0.8
"""


@pytest.fixture
def preset(
    server: Server,
    rounded_pipeline: StableDiffusionXLPipeline,
    rounded_source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The preset's file; all that it refers to is on the server."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("CIVITAI_ENDPOINT", server.url)
    publish(server, "owner/rounded", files_of(rounded_source))
    preview_decoder(0).save_pretrained(tmp_path / "taesd", safe_serialization=True)
    publish(server, "owner/taesd", files_of(tmp_path / "taesd"))
    writer = LoraWriter()
    writer.lora(LINEAR, tuple(rounded_pipeline.unet.get_submodule(LINEAR).weight.shape), 2, 1)
    Published(writer.save(tmp_path / "ink.safetensors").read_bytes()).on(server)
    file = tmp_path / "own.toml"
    file.write_text(PRESET)
    return file


def test_a_preset_becomes_a_package(
    preset: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = tmp_path / "engines"
    command = ["build", "--preset", str(preset), "--cache", str(tmp_path / "cache"), "--quiet"]
    command += ["--engines", str(engines), "--default-steps", "9"]

    assert run(command) == 0
    assert capsys.readouterr().out == f"{engines / 'own'}\n"
    package = load_package(engines, "own")
    manifest = package.manifest
    assert manifest.description == "A model of the user's"
    assert (manifest.source.kind, manifest.source.reference, manifest.source.revision) == (
        "hugging face",
        "owner/rounded",
        COMMIT,
    )
    defaults = manifest.defaults
    assert (defaults.width, defaults.height, defaults.steps) == (128, 96, 9)
    assert (defaults.cfg_scale, defaults.sampler) == (5.0, "ddim")
    assert defaults.negative_prompt == "blurry"
    assert manifest.preview == NetworkPreview()
    (pack,) = LoraShelf(package).packs()
    assert (pack.record.id, pack.record.weight) == (f"civitai_{VERSION}", 0.8)
    assert pack.record.triggers == "ink wash, paper"

    asked = len(server.requests)
    assert run(command) == 1
    assert "already there; build it anew with --replace" in capsys.readouterr().err
    assert len(server.requests) == asked

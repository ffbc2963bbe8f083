"""What is no source gets one line that says what was expected, before any work."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine_build.cli import run


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def remove_component(source: Path) -> None:
    index = source / "model_index.json"
    content = json.loads(index.read_text())
    del content["text_encoder_2"]
    index.write_text(json.dumps(content))


def pickle_weights(source: Path) -> None:
    weights = source / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


def two_variants(source: Path) -> None:
    weights = source / "unet/diffusion_pytorch_model.safetensors"
    shutil.copy(weights, source / "unet/diffusion_pytorch_model.fp16.safetensors")
    weights.rename(source / "unet/diffusion_pytorch_model.bf16.safetensors")


def cut_off(source: Path) -> None:
    weights = source / "vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda source: (source / "model_index.json").unlink(), "no model_index.json in it"),
    (lambda source: (source / "model_index.json").write_text("{"), "no valid JSON"),
    (
        lambda source: edit(source / "model_index.json", _class_name="FluxFillPipeline"),
        "a FluxFillPipeline, expected StableDiffusionXLPipeline",
    ),
    (
        lambda source: edit(source / "model_index.json", requires_aesthetics_score=True),
        "it is SDXL's refiner; expected a base model",
    ),
    (remove_component, "component text_encoder_2 is missing from model_index.json"),
    (lambda source: shutil.rmtree(source / "vae"), "component vae is missing, expected the folder"),
    (lambda source: (source / "unet/config.json").unlink(), "there is no such file"),
    (lambda source: edit(source / "unet/config.json", in_channels=9), "inpainting models"),
    (
        lambda source: (source / "unet/diffusion_pytorch_model.safetensors").unlink(),
        "no weights in it, expected diffusion_pytorch_model.safetensors",
    ),
    (pickle_weights, "Python's pickle format"),
    (two_variants, "several variants of the weights"),
    (cut_off, "diffusion_pytorch_model.safetensors: "),
    (
        lambda source: edit(source / "scheduler/scheduler_config.json", thresholding=True),
        "thresholding",
    ),
    (lambda source: (source / "tokenizer/tokenizer.json").unlink(), "no tokenizer here"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[text for _, text in DAMAGES])
def test_damaged_source_is_refused_in_one_line(
    tiny_source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    message: str,
) -> None:
    source = tmp_path / "source"
    shutil.copytree(tiny_source, source)
    damage(source)
    assert_refused(source, tmp_path / "engines", message, capsys)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "there is no such folder; expected a diffusers folder"),
        ("model.safetensors", "a single-file checkpoint cannot be built"),
        ("model.ckpt", "a single-file checkpoint cannot be built"),
        ("notes.txt", "a file cannot be built"),
    ],
)
def test_what_is_no_folder_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    if name != "absent":
        (tmp_path / name).write_bytes(b"no checkpoint")
    assert_refused(tmp_path / name, tmp_path / "engines", message, capsys)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--name"),
        (["--name", "../mine"], "is no name for a package"),
        (["--name", "mine", "--max-size", "0"], "is no positive whole number"),
        (["--name", "mine", "--default-size", "1024"], "is no size such as 1024x1024"),
        (["--name", "mine", "--default-sampler", "plms"], "invalid choice: 'plms'"),
    ],
)
def test_wrong_command_line_exits_with_2(
    tiny_source: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["build", str(tiny_source), *flags])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def assert_refused(
    source: Path, engines: Path, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", str(source), "--name", "mine", "--engines", str(engines)]
    assert run(command) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("engine-build: ")
    assert message in lines[0]
    assert not engines.exists() or not any(engines.iterdir())

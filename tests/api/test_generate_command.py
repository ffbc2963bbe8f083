"""`calotype generate` and `info`: what they write, and what they refuse before any work."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from api.cli import main
from engine_build.cli import run as build
from runtime.draw.recipe import read_recipe
from tests.places import ENGINES

WRONG: list[tuple[list[str], str]] = [
    (["a cat", "--width", "100"], "width: 100 is no multiple of 32"),
    (["a cat", "--steps", "0"], "steps: 0 is less than the minimum, 1"),
    (["a cat", "--sampler", "plms"], 'sampler: "plms" is not one of euler, euler_a'),
    (["a cat", "--sampler", "ddim", "--schedule", "karras"], "schedule: sampler 'ddim' has no"),
    (["a cat", "--cfg-scale", "nan"], "cfg_scale: is not a finite number"),
    (["a cat", "--seed", "-1"], "for a seed that is drawn give null, or leave seed out"),
    (["a cat", "--sampler", "DPM++ 2M Karras"], '"dpm++_2m" with "schedule": "karras"'),
    (["a cat", "--guidance-interval", "0.8", "0.2"], "guidance_interval: [0.8, 0.2] ends before"),
    (["a cat", "--lora", "ink:0.8"], "loras: "),
    ([], "prompt: missing, and required"),
    (["a cat", "--request", "absent.json"], "request: absent.json: cannot be read"),
    (["a cat", "--latents", "absent/latents.npy"], "latents: absent/latents.npy: the folder"),
]


def run(engines: Path, output: Path, *flags: str, model: str = "tiny") -> int:
    return main(
        ["generate", *flags, "--model", model, "--engines", str(engines), "-o", str(output)]
    )


@pytest.mark.parametrize(("flags", "message"), WRONG)
def test_wrong_request_is_refused_by_name(
    tiny_package: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    picture = tmp_path / "picture.png"
    assert run(tiny_package, picture, *flags) == 2
    assert message in capsys.readouterr().err
    assert not picture.exists()


def test_a_wrong_tile_is_refused_and_a_right_one_told_with_the_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "picture.png"
    flags = ("a tree", "--steps", "2", "--width", "160", "--backend", "onnxruntime-cpu")
    assert run(ENGINES, picture, *flags, "--vae-tile", "100", model="demo") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("calotype: --vae-tile=100: ")
    assert not picture.exists()
    assert run(ENGINES, picture, *flags, "--vae-tile", "128", model="demo") == 0
    told = "calotype: pictures of 160x128 pixels are decoded in tiles of 128x128 "
    assert told in capsys.readouterr().err
    with Image.open(picture) as image:
        assert image.size == (160, 128)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON"),
        ('{"prompt": NaN}', "NaN is no JSON number"),
        ("[]", "object"),
        ('{"prompt": "a", "seed": 1, "seed": 2}', "seed: stands twice"),
    ],
)
def test_wrong_request_file_is_refused(
    tiny_package: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    message: str,
) -> None:
    request = tmp_path / "request.json"
    request.write_text(content)
    assert run(tiny_package, tmp_path / "picture.png", "--request", str(request)) == 2
    assert message in capsys.readouterr().err


def test_missing_model_is_a_failure_that_names_what_there_is(
    tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_package, tmp_path / "picture.png", "a cat", model="absent") == 1
    error = capsys.readouterr().err
    assert "model 'absent' is not in" in error
    assert "tiny" in error


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_a_picture_draws_itself_again(
    tiny_package: Path, tmp_path: Path, output_format: str
) -> None:
    first, again = tmp_path / f"first.{output_format}", tmp_path / f"again.{output_format}"
    flags = ["--steps", "2", "--width", "64", "--height", "96", "--output-format", output_format]
    assert run(tiny_package, first, "two cats", *flags) == 0
    assert run(tiny_package, again, "--request", str(first)) == 0
    assert again.read_bytes() == first.read_bytes()
    body: Any = read_recipe(first)
    assert (body["width"], body["height"], body["steps"]) == (64, 96, 2)


def test_a_recipe_that_a_jpeg_has_no_room_for_is_said(
    tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"prompt": "\U00013000" * 10_000, "negative_prompt": "\U00013000" * 10_000}
    (tmp_path / "request.json").write_text(json.dumps({**request, "output_format": "jpeg"}))
    flags = ["--request", str(tmp_path / "request.json"), "--steps", "1", "--cfg-scale", "1"]
    assert run(tiny_package, tmp_path / "picture.jpg", *flags) == 0
    assert "longer than the 64 KB that a JPEG takes" in capsys.readouterr().err
    with Image.open(tmp_path / "picture.jpg") as image:
        assert image.format == "JPEG"


def test_what_is_text_in_a_prompt_is_told(
    tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--steps", "1", "--width", "64", "--height", "64", "--negative-prompt", "a AND b"]
    prompt = "a cat <lora:ink:0.8> [day:night:0.5]"
    assert run(tiny_package, tmp_path / "picture.png", prompt, *flags) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "taken as text" in line]
    assert len(told) == 3
    assert '"loras": {"id": "ink", "weight": 0.8}' in told[0]
    assert run(tiny_package, tmp_path / "plain.png", prompt, *flags, "--no-prompt-weighting") == 0
    error = capsys.readouterr().err
    assert told[0] in error
    assert error.count("taken as text") == 1


def test_flags_override_a_request_file(tiny_package: Path, tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    recipe = {"prompt": "two cats", "steps": 3, "seed": 1, "model": "another"}
    request.write_text(json.dumps(recipe))
    picture = tmp_path / "picture.png"
    flags = ["--request", str(request), "--steps", "2", "--width", "64", "--height", "64"]
    assert run(tiny_package, picture, *flags) == 0
    body: Any = read_recipe(picture)
    assert (body["prompt"], body["steps"], body["seed"]) == ("two cats", 2, 1)
    assert body["model"] == "tiny"


def test_a_picture_is_written_through_a_link_and_over_a_file(
    tiny_package: Path, tmp_path: Path
) -> None:
    picture, link = tmp_path / "picture.png", tmp_path / "link.png"
    link.symlink_to(picture)
    flags = ["--steps", "1", "--width", "64", "--height", "64", "--seed"]
    assert run(tiny_package, link, "a cat", *flags, "1") == 0
    assert link.is_symlink()
    first = picture.read_bytes()
    assert run(tiny_package, picture, "a cat", *flags, "2") == 0
    assert picture.read_bytes() != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.png", "picture.png"]


def test_latents_and_previews_are_written(tiny_package: Path, tmp_path: Path) -> None:
    latents, previews = tmp_path / "latents.npy", tmp_path / "previews"
    flags = ["--steps", "3", "--width", "64", "--height", "96", "--preview-every", "2"]
    outputs = ["--latents", str(latents), "--previews", str(previews)]
    assert run(tiny_package, tmp_path / "picture.png", "a lake", *flags, *outputs) == 0
    assert np.load(latents).shape == (1, 4, 12, 8)
    names = sorted(path.name for path in previews.iterdir())
    assert names == ["step_002.jpg", "step_003.jpg"]
    with Image.open(previews / names[0]) as preview:
        assert preview.size == (64, 96)


def test_info_states_the_schema(tiny_package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--model", "tiny", "--engines", str(tiny_package)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["model"]["family"] == "sdxl"
    assert facts["parameters"]["properties"]["width"]["multipleOf"] == 32


def test_the_command_is_a_program(tiny_package: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    program = Path(sys.executable).parent / "calotype"
    command = [program, "generate", "a cat", "-o", picture]
    flags = ["--model", "tiny", "--engines", tiny_package, "--steps", "1", "--seed", "7"]
    done = subprocess.run([*command, *flags], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, f"{picture} (seed 7)")
    assert picture.exists()


@pytest.mark.parametrize(
    ("ending", "kind"),
    [(".png", "PNG"), (".jpg", "JPEG"), (".JPEG", "JPEG"), (".webp", "WEBP"), ("", "PNG")],
)
def test_the_ending_is_the_format(
    tiny_package: Path, tmp_path: Path, ending: str, kind: str
) -> None:
    picture = tmp_path / f"picture{ending}"
    assert run(tiny_package, picture, "a cat", "--steps", "1", "--width", "64") == 0
    assert Image.open(picture).format == kind


def test_an_ending_that_is_another_formats_is_refused(
    tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_package, tmp_path / "picture.gif", "a cat") == 2
    assert "picture.gif: no picture's ending; .png, .webp, .jpg" in capsys.readouterr().err
    assert run(tiny_package, tmp_path / "picture.jpg", "a cat", "--output-format", "png") == 2
    assert "its ending stands for jpeg, and png was asked for" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_command_takes_the_folder_of_packages_from_the_environment(
    tiny_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALOTYPE_ENGINES", str(tiny_package))
    monkeypatch.chdir(tmp_path)
    picture = tmp_path / "picture.png"
    assert main(["info", "--model", "tiny"]) == 0
    drawn = ["generate", "a cat", "--model", "tiny", "--steps", "1", "--width", "64"]
    assert main([*drawn, "-o", str(picture)]) == 0
    assert build(["inspect", "tiny"]) == 0

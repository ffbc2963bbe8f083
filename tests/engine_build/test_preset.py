"""Presets: those that come with us are accepted by their families, and what is wrong is named."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine_build.checkpoint.sources import open_folder
from engine_build.cli import run
from engine_build.fetch.references import parse
from engine_build.package.build import check_defaults
from engine_build.package.export.families import exporter_for
from engine_build.package.export.role import Choices
from engine_build.preset import preset_names, read_preset
from runtime.errors import SourceError

WHOLE = """
source = "owner/name"
description = "A model"
licence = "MIT"
resolutions = [[1024, 1024]]
"""


def test_those_of_all_five_lines_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(preset_names())
    assert set(preset_names()) == {
        "sdxl-base",
        "illustrious",
        "flux-dev",
        "flux-schnell",
        "chroma-base",
        "chroma-hd",
        "chroma-flash",
        "zimage-turbo",
    }


@pytest.mark.parametrize("name", preset_names())
def test_its_references_are_understood(name: str) -> None:
    preset = read_preset(name)
    for reference in (preset.source, preset.base, preset.preview_decoder):
        assert reference is None or parse(reference)


TINY = {
    "flux-dev": ("tiny_flux_source", 50, 3.5),
    "flux-schnell": ("tiny_schnell_source", 4, None),
    "chroma-base": ("tiny_chroma_source", 20, 4.0),
    "chroma-hd": ("tiny_chroma_source", 28, 4.0),
    "chroma-flash": ("tiny_chroma_source", 4, None),
    "zimage-turbo": ("tiny_zimage_source", 8, None),
}


@pytest.mark.parametrize("name", TINY)
def test_a_family_takes_what_its_preset_chooses(name: str, request: pytest.FixtureRequest) -> None:
    fixture, steps, cfg_scale = TINY[name]
    preset = read_preset(name)
    choices = Choices(
        **asdict(preset.defaults),
        guidance_baked_in=preset.guidance_baked_in,
        resolutions=preset.resolutions,
    )
    source = open_folder(request.getfixturevalue(fixture))
    model = exporter_for(source).read(source, choices)
    check_defaults(model.limits, model.defaults, preset.resolutions)
    assert (model.defaults.steps, model.defaults.cfg_scale) == (steps, cfg_scale)


def test_a_file_in_the_place_of_its_folder_has_that_folder_for_its_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    (tmp_path / "own.toml").write_text(WHOLE.replace("owner/name", str(folder)))
    file = tmp_path / "single.safetensors"
    save_file({"double_blocks.0.img_mlp.0.weight": np.zeros((4, 4), np.float32)}, file)
    command = ["build", str(file), "--preset", str(tmp_path / "own.toml")]
    assert run([*command, "--engines", str(tmp_path / "engines")]) == 1
    told = capsys.readouterr().err
    assert f"{folder}: of class StableDiffusionXLPipeline, but single.safetensors is the " in told


WRONG = {
    "an unknown key": (WHOLE + "sorce = 'a'", "sorce: Unexpected keyword argument"),
    "a missing key": ("source = 'a'", "description: Field required"),
    "a nested key": (WHOLE + "[defaults]\nsize = 5", "defaults.size: Unexpected keyword argument"),
    "another type": (WHOLE + "[defaults]\nsteps = '20'", "defaults.steps: "),
    "too many steps": (WHOLE + "[defaults]\nsteps = 101", "defaults.steps: "),
    "no sampler": (WHOLE + "[defaults]\nsampler = 'magic'", "'magic' is no sampler"),
    "no size": (WHOLE.replace("[1024, 1024]", "[1024]"), "resolutions.0.1: Field required"),
    "a LoRA's weight": (WHOLE + "[[loras]]\nreference = 'a'\nweight = 3.0", "loras.0.weight: "),
    "an endless number": (
        WHOLE + "[defaults]\nsteps = " + "9" * 5_000,
        "an integer in it has thousands of digits",
    ),
    "an endless hexadecimal": (
        WHOLE + "[defaults]\nsteps = 0x" + "9" * 5_000,
        "an integer in it has thousands of digits",
    ),
    "no TOML": ("source =", "no valid TOML"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_fault_is_named_in_one_line(tmp_path: Path, fault: str) -> None:
    text, message = WRONG[fault]
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(SourceError) as raised:
        read_preset(str(path))
    assert message in str(raised.value)
    assert "own.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["sdxl", "../pyproject", "none.toml"])
def test_an_unknown_preset_says_what_there_is(name: str) -> None:
    with pytest.raises(SourceError, match="chroma-base, chroma-flash"):
        read_preset(name)

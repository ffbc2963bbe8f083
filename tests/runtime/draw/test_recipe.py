"""Pictures carry their recipe, and other tools read it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runtime.draw.infotext import infotext
from runtime.draw.recipe import (
    EXTENSIONS,
    JSON_KEY,
    encode_picture,
    read_parameters_text,
    read_recipe,
)
from runtime.errors import RequestError
from runtime.plan.families.sdxl import Sdxl
from runtime.plan.parameters import parameters_schema
from runtime.plan.request import GenerateRequest, read_request
from tests.runtime.draw.plans import paper_plan
from tests.runtime.draw.recipe_readers import (
    civitai_parameters,
    comfyui_parameters,
    web_ui_parameters,
    web_ui_text,
)
from tests.tiny.manifests import MANIFEST

FACTS = Sdxl().facts(MANIFEST)
SCHEMA = parameters_schema(MANIFEST, FACTS)
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)

PROMPTS = [
    "a cat",
    'größe, 猫, "quoted"\nsecond line',
    "𝄞 \u200fright to left\u200e",
    "Steps: 3, Sampler: Euler, Seed: 1\nNegative prompt: dogs",
    "a\0b: c, d\\",
    "",
]


def _picture(path: Path, request: GenerateRequest) -> str | None:
    """Write the picture of a request; returns the warning."""
    file = encode_picture(PIXELS, request, infotext(paper_plan(request), MANIFEST, FACTS))
    path.write_bytes(file.content)
    return file.warning


@pytest.mark.parametrize("output_format", EXTENSIONS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_recipe_survives_in_every_format(tmp_path: Path, output_format: str, prompt: str) -> None:
    body = {"prompt": prompt, "negative_prompt": "x", "seed": 5, "output_format": output_format}
    request = read_request(body, SCHEMA)
    path = tmp_path / f"picture.{EXTENSIONS[output_format]}"
    assert _picture(path, request) is None
    assert read_request(read_recipe(path), SCHEMA) == request
    text = infotext(paper_plan(request), MANIFEST, FACTS).text()
    assert read_parameters_text(path) == web_ui_text(path) == text


@pytest.mark.parametrize("output_format", EXTENSIONS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_other_tools_read_the_settings(tmp_path: Path, output_format: str, prompt: str) -> None:
    body = {"prompt": prompt, "negative_prompt": "x, y", "seed": 5, "output_format": output_format}
    path = tmp_path / f"picture.{EXTENSIONS[output_format]}"
    _picture(path, read_request(body, SCHEMA))
    text = web_ui_text(path)
    read = web_ui_parameters(text)
    assert read["Negative prompt"] == "x, y"
    settings = {
        "Steps": "20",
        "Sampler": "Euler a",
        "Schedule type": "Uniform",
        "CFG scale": "7.0",
        "Seed": "5",
        "Size": "128x128",
        "Model": "paper",
        "RNG": "CPU",
    }
    assert read | settings == read
    assert "Model hash" not in read
    assert read["Version"].startswith("Calotype ")
    civitai = civitai_parameters(text)
    assert civitai | settings | {"negativePrompt": "x, y"} == civitai
    comfyui = comfyui_parameters(text)
    assert comfyui is not None
    assert comfyui[1:] == ("x, y", text.split("\n")[-1])


def test_comfyui_reads_a_picture_without_a_negative_prompt(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    _picture(path, read_request({"prompt": "a cat"}, SCHEMA))
    comfyui = comfyui_parameters(web_ui_text(path))
    assert comfyui is not None
    assert comfyui[:2] == ("a cat", "")
    assert web_ui_parameters(web_ui_text(path))["Negative prompt"] == ""


LONG = {
    "猫": "in other characters",
    "\U00013000": "in characters of four bytes",
    "\x01": "in characters that JSON writes as six",
    "(": "of brackets",
}


@pytest.mark.parametrize("output_format", EXTENSIONS)
@pytest.mark.parametrize("letter", LONG, ids=LONG.get)
@pytest.mark.parametrize("negative", [0, 10_000])
def test_a_picture_is_encoded_whatever_its_recipe_takes(
    tmp_path: Path, output_format: str, letter: str, negative: int
) -> None:
    body = {
        "prompt": letter * 10_000,
        "negative_prompt": letter * negative,
        "seed": 5,
        "prompt_weighting": False,
        "output_format": output_format,
    }
    request = read_request(body, SCHEMA)
    path = tmp_path / f"picture.{EXTENSIONS[output_format]}"
    warning = _picture(path, request)
    with Image.open(path) as image:
        image.load()
        assert image.size == (96, 64)
    read = web_ui_parameters(web_ui_text(path))
    assert (read["Seed"], read["Size"]) == ("5", "128x128")
    whole = infotext(paper_plan(request), MANIFEST, FACTS)
    if warning is None:
        assert read_request(read_recipe(path), SCHEMA) == request
        assert web_ui_text(path) == whole.text()
    else:
        assert output_format == "jpeg"
        assert whole.prompt.strip().startswith(read["Prompt"])
        assert "64 KB" in warning


def test_a_jpeg_keeps_its_request_when_that_alone_has_room(tmp_path: Path) -> None:
    body = {"prompt": "猫" * 10_000, "negative_prompt": "犬" * 6_000, "output_format": "jpeg"}
    request = read_request({**body, "seed": 1}, SCHEMA)
    warning = _picture(tmp_path / "picture.jpg", request)
    assert warning is not None
    assert "other tools" in warning
    assert read_request(read_recipe(tmp_path / "picture.jpg"), SCHEMA) == request


def test_a_jpeg_without_room_for_its_request_says_so(tmp_path: Path) -> None:
    body = {"prompt": "\U00013000" * 10_000, "negative_prompt": "\U00013001" * 10_000}
    request = read_request({**body, "output_format": "jpeg", "seed": 1}, SCHEMA)
    warning = _picture(tmp_path / "picture.jpg", request)
    assert warning is not None
    assert "cannot be drawn again" in warning
    with pytest.raises(RequestError, match="a picture without a recipe"):
        read_recipe(tmp_path / "picture.jpg")


def test_a_jpeg_whose_settings_have_no_room_has_no_recipe(tmp_path: Path) -> None:
    request = read_request({"prompt": "a cat", "output_format": "jpeg", "seed": 1}, SCHEMA)
    text = replace(infotext(paper_plan(request), MANIFEST, FACTS), networks="<lora:x:1>" * 7_000)
    request = replace(request, prompt="x" * 70_000)
    file = encode_picture(PIXELS, request, text)
    assert file.warning is not None
    (tmp_path / "picture.jpg").write_bytes(file.content)
    assert read_parameters_text(tmp_path / "picture.jpg") == ""


def test_picture_without_a_recipe_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "plain.png"
    Image.fromarray(PIXELS).save(path)
    with pytest.raises(RequestError, match=r"plain\.png: a picture without a recipe"):
        read_recipe(path)


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text("no picture")
    with pytest.raises(RequestError, match=r"text\.png: no picture that can be read"):
        read_recipe(path)


@pytest.mark.parametrize("recipe", ["[" * 100_000, "NaN", "no JSON", '{"seed": 1e999}', "\ud800"])
def test_a_recipe_that_others_wrote_is_refused_in_one_line(tmp_path: Path, recipe: str) -> None:
    path = tmp_path / "others.png"
    info = PngInfo()
    info.add_itxt(JSON_KEY, recipe.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    Image.fromarray(PIXELS).save(path, pnginfo=info)
    with pytest.raises(RequestError) as caught:
        read_request(read_recipe(path), SCHEMA)
    assert "\n" not in str(caught.value)


def test_a_picture_of_an_older_version_is_read(tmp_path: Path) -> None:
    request = read_request({"prompt": "größe", "seed": 5}, SCHEMA)
    exif = Image.Exif()
    exif[0x010E] = json.dumps(request.to_json())
    Image.fromarray(PIXELS).save(tmp_path / "old.jpg", exif=exif)
    assert read_request(read_recipe(tmp_path / "old.jpg"), SCHEMA) == request

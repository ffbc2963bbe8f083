"""Pictures carry their recipe."""

from pathlib import Path

import numpy as np
import pytest

from runtime.draw.recipe import EXTENSIONS, encode_picture, read_parameters_text, read_recipe
from runtime.errors import RequestError
from runtime.plan.families.sdxl import Sdxl
from runtime.plan.parameters import parameters_schema
from runtime.plan.request import read_request
from tests.tiny.manifests import MANIFEST

SCHEMA = parameters_schema(MANIFEST, Sdxl().facts(MANIFEST))
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


@pytest.mark.parametrize("output_format", EXTENSIONS)
@pytest.mark.parametrize("prompt", ["a cat", 'größe, 猫, "quoted"\nsecond line', "𝄞"])
def test_recipe_survives_in_every_format(tmp_path: Path, output_format: str, prompt: str) -> None:
    body = {"prompt": prompt, "negative_prompt": "x", "seed": 5, "output_format": output_format}
    request = read_request(body, SCHEMA)
    path = tmp_path / f"picture.{EXTENSIONS[output_format]}"
    path.write_bytes(encode_picture(PIXELS, request, "paper"))
    assert read_request(read_recipe(path), SCHEMA) == request
    settings = (
        "Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7.0, Seed: 5, "
        "Size: 128x128, Model: paper"
    )
    assert read_parameters_text(path) == f"{prompt}\nNegative prompt: x\n{settings}"


def test_picture_without_a_recipe_is_refused_by_name(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "plain.png"
    Image.fromarray(PIXELS).save(path)
    with pytest.raises(RequestError, match=r"plain\.png: a picture without a recipe"):
        read_recipe(path)


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text("no picture")
    with pytest.raises(RequestError, match=r"text\.png: no picture that can be read"):
        read_recipe(path)

"""Each example of the guide, as it is written, drawn by a server of the model that it is for."""

import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from api.examples import GUIDE
from engine_build.lora.packs import LoraRequest, add_pack
from runtime.package.manifest import MANIFEST_NAME, read_manifest, read_package, write_manifest
from tests.api.conftest import Starter
from tests.api.live import Options
from tests.tiny.lora_files import LoraWriter

PLACE = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"

FAMILIES = [
    ("tiny_chroma", "A cat, in plain words"),
    ("tiny_flux", "A landscape, in plain words"),
    ("tiny_schnell", "A landscape, in plain words"),
    ("tiny_zimage", "A scene, in plain words"),
]


def copied(engines: Path, name: str, target: Path) -> Path:
    """An engines folder with a copy of this package alone.

    Its pictures are as large as the guide's, and take two steps where nobody asks for more.
    """
    package = target / name
    shutil.copytree(engines / name, package)
    manifest, _ = read_manifest(package)
    (package / MANIFEST_NAME).unlink()
    defaults = replace(manifest.defaults, width=1024, height=1024, steps=2)
    write_manifest(package, replace(manifest, defaults=defaults))
    return target


@pytest.mark.parametrize(("name", "title"), FAMILIES)
def test_an_example_in_plain_words_is_drawn_as_written(
    request: pytest.FixtureRequest, start: Starter, tmp_path: Path, name: str, title: str
) -> None:
    engines = copied(request.getfixturevalue(f"{name}_package"), name, tmp_path / "engines")
    api = start(Options(engines, tmp_path / "data", name)).api
    answer = api.client.post("/api/generate", json=GUIDE[title])
    assert answer.status_code == 202, answer.text
    job = api.finish(answer.json()["job_id"])
    assert {**job["request"], **GUIDE[title]} == job["request"]
    picture = pixels(api.picture(job))
    assert picture.shape == (1024, 1024, 3)
    assert picture.std() > 1


def test_the_example_with_a_lora_is_drawn_as_written(
    tiny_package: Path, start: Starter, tmp_path: Path
) -> None:
    engines = copied(tiny_package, "tiny", tmp_path / "engines")
    package = read_package(engines, "tiny")
    shape = package.manifest.roles["denoiser"].parameters[f"{PLACE}.weight"].shape
    writer = LoraWriter()
    writer.lora(PLACE, shape, 2, 1.0)
    file = writer.save(tmp_path / "style.safetensors")
    body = GUIDE["With a LoRA"]
    add_pack(package, LoraRequest(file, file.name, id=body["loras"][0]["id"]))
    api = start(Options(engines, tmp_path / "data")).api
    answer = api.client.post("/api/generate", json=body)
    assert answer.status_code == 202, answer.text
    job = api.finish(answer.json()["job_id"])
    assert {**job["request"], **body} == job["request"]
    plain = {**job["request"], "loras": []}
    without = api.finish(api.client.post("/api/generate", json=plain).json()["job_id"])
    assert not np.array_equal(pixels(api.picture(job)), pixels(api.picture(without)))


def pixels(content: bytes) -> np.ndarray:
    """Without the recipe that lies beside them in the file."""
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))

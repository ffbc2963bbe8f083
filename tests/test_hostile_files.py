"""Every reader of files that others wrote: a file is read, or refused in one line."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

from api.request_flags import _read_body
from engine_build.checkpoint.single_file.open import open_single_file
from engine_build.checkpoint.sources import open_folder, read_json
from engine_build.lora.formats import read_lora
from engine_build.preset import read_preset
from runtime.draw.infotext import infotext
from runtime.draw.recipe import EXTENSIONS, encode_picture, read_recipe
from runtime.package.hashes import HASHES_NAME, KnownHashes
from runtime.package.manifest import MANIFEST_NAME, read_manifest
from runtime.package.pack import PACK_NAME, read_pack
from runtime.package.sealed import seal
from runtime.plan.families.sdxl import Sdxl
from runtime.plan.parameters import parameters_schema
from runtime.plan.request import read_request
from runtime.plan.sampling.samplers import SAMPLERS, step_table
from runtime.plan.sampling.scheduler_config import SchedulerConfig
from runtime.plan.sampling.solvers.flow import FlowConfig
from runtime.plan.text.tokenizer import PromptTokenizer, TokenizerSpec
from tests.engine_build.checkpoint.hostile import hostile_files
from tests.hostile import hostile_bytes, hostile_json, refusal
from tests.places import ENGINES
from tests.runtime.draw.plans import paper_plan
from tests.tiny.manifests import MANIFEST

FACTS = Sdxl().facts(MANIFEST)
SCHEMA = parameters_schema(MANIFEST, FACTS)
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
BODY: dict[str, Any] = {"prompt": "größe 猫", "seed": 5, "steps": 3, "guidance_interval": [0, 1]}
DEMO = ENGINES / "demo"
SCHEDULER = json.loads((DEMO / MANIFEST_NAME).read_bytes())["scheduler"]
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "base_shift": 0.5}
INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
}
WEIGHT_MAP = {"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
PRESET = (Path(__file__).parents[1] / "engine_build/presets/sdxl-base.toml").read_bytes()
ANYTHING: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def _picture(output_format: str) -> bytes:
    request = read_request({**BODY, "output_format": output_format}, SCHEMA)
    return encode_picture(PIXELS, request, infotext(paper_plan(request), MANIFEST, FACTS)).content


@pytest.mark.parametrize("output_format", EXTENSIONS)
@given(data=st.data())
def test_pictures(folder: Path, output_format: str, data: st.DataObject) -> None:
    path = folder / f"picture.{EXTENSIONS[output_format]}"
    path.write_bytes(data.draw(hostile_bytes(_picture(output_format))))
    refusal(lambda path: read_request(read_recipe(path), SCHEMA), path)


@given(hostile_json(BODY))
def test_request_files(folder: Path, text: str) -> None:
    path = folder / "request.json"
    path.write_text(text)
    refusal(lambda path: read_request(_read_body(path), SCHEMA), path)


@given(hostile_json(SCHEDULER), st.sampled_from(sorted(SAMPLERS)))
def test_configurations_of_schedulers(folder: Path, text: str, sampler: str) -> None:
    path = folder / "scheduler_config.json"
    path.write_text(text)

    def read(path: Path) -> None:
        config = SchedulerConfig.from_mapping(read_json(path))
        step_table(sampler, "default", 3, config)

    refusal(read, path)


@given(hostile_json(FLOW))
def test_configurations_of_flows(folder: Path, text: str) -> None:
    path = folder / "flow_config.json"
    path.write_text(text)
    refusal(lambda path: FlowConfig.from_mapping(read_json(path)), path)


@given(hostile_json(INDEX), hostile_json({"model_max_length": 77}), hostile_json(WEIGHT_MAP))
def test_folders(folder: Path, index: str, tokenizer: str, weights: str) -> None:
    source = folder / "source"
    for name in ("unet", "tokenizer", "scheduler"):
        (source / name).mkdir(parents=True, exist_ok=True)
    (source / "model_index.json").write_text(index)
    (source / "unet" / "config.json").write_text("{}")
    (source / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(weights)
    (source / "unet" / "one.safetensors").write_bytes(b"")
    (source / "tokenizer" / "tokenizer.json").write_text("{}")
    (source / "tokenizer" / "tokenizer_config.json").write_text(tokenizer)
    (source / "scheduler" / "scheduler_config.json").write_text(index)
    refusal(lambda path: open_folder(path).network("unet", ("UNet2DConditionModel",)), source)
    refusal(lambda path: open_folder(path).tokenizer("tokenizer"), source)
    refusal(lambda path: open_folder(path).scheduler(), source)


@given(hostile_json(json.loads((DEMO / MANIFEST_NAME).read_bytes())), st.booleans())
def test_manifests(folder: Path, text: str, sealed: bool) -> None:
    (folder / MANIFEST_NAME).write_bytes(_sealed(text) if sealed else text.encode())
    refusal(read_manifest, folder)


@given(
    hostile_json(json.loads((DEMO / "loras/monochrome" / PACK_NAME).read_bytes())), st.booleans()
)
def test_packs(folder: Path, text: str, sealed: bool) -> None:
    pack = folder / "loras" / "pack"
    pack.mkdir(parents=True, exist_ok=True)
    (pack / PACK_NAME).write_bytes(_sealed(text) if sealed else text.encode())
    refusal(read_pack, pack)


@given(hostile_json({"files": {}, "format": 1, "digest": "0"}), st.booleans())
def test_known_hashes(folder: Path, text: str, sealed: bool) -> None:
    (folder / HASHES_NAME).write_bytes(_sealed(text) if sealed else text.encode())
    assert refusal(KnownHashes, folder) is None


def _sealed(text: str) -> bytes:
    """The text with a digest that fits, where it can have one."""
    try:
        content = json.loads(text)
        content.pop("digest", None)
        return seal(ANYTHING, content)
    except (ValueError, RecursionError, AttributeError, TypeError):
        return text.encode()


@given(hostile_bytes(PRESET))
def test_presets(folder: Path, content: bytes) -> None:
    path = folder / "preset.toml"
    path.write_bytes(content)
    refusal(lambda path: read_preset(str(path)), path)


def test_a_preset_that_is_nested_without_end(folder: Path) -> None:
    path = folder / "deep.toml"
    path.write_text("source = " + "[" * 100_000)
    assert refusal(lambda path: read_preset(str(path)), path) is not None


@given(hostile_json(json.loads((DEMO / "tokenizer.json").read_bytes())))
def test_tokenizers(folder: Path, text: str) -> None:
    path = folder / "tokenizer.json"
    path.write_text(text)
    spec = TokenizerSpec(begin=0, end=1, pad=1, max_length=77)
    refusal(lambda path: PromptTokenizer.load(path, spec).ids("a red heart"), path)


@given(hostile_files())
def test_single_files(folder: Path, content: bytes) -> None:
    path = folder / "single.safetensors"
    path.write_bytes(content)
    assert refusal(lambda path: open_single_file(path, folder), path) is not None


@given(hostile_files())
def test_loras(folder: Path, content: bytes) -> None:
    path = folder / "lora.safetensors"
    path.write_bytes(content)
    refusal(read_lora, path)


def test_a_picture_whose_fields_are_of_other_types(folder: Path) -> None:
    for value in (5, (1, 2), b"\xff\xfe", "\x00", "[" * 60_000):
        exif = Image.Exif()
        exif[0x010E] = value
        buffer = BytesIO()
        Image.fromarray(PIXELS).save(buffer, "JPEG", exif=exif)
        path = folder / "typed.jpg"
        path.write_bytes(buffer.getvalue())
        fault = refusal(lambda path: read_request(read_recipe(path), SCHEMA), path)
        assert fault is not None

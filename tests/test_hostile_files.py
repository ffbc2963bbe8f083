"""Every reader of files that others wrote: a file is read, or refused in one line.

Each sound file is read before its changes are tried, so that a fuzz cannot pass by refusing all.
"""

import json
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from api.body import parse_body
from api.errors import problem
from api.request_flags import _read_body
from benchmarks.tiny.flow_models import t5_tokenizer
from benchmarks.tiny.zimage_models import qwen_tokenizer
from engine_build.checkpoint.single_file.open import open_single_file
from engine_build.checkpoint.sources import open_folder, read_json
from engine_build.preset import read_preset
from runtime.draw.infotext import infotext
from runtime.draw.recipe import EXTENSIONS, encode_picture, read_recipe
from runtime.exif import exif_block
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
from tests.engine_build.checkpoint.hostile import hostile_file
from tests.hostile import hostile_bytes, hostile_json, odd_text, put, refusal
from tests.inputs import Inputs
from tests.places import ENGINES
from tests.runtime.draw.plans import paper_plan
from tests.tiny.manifests import MANIFEST

FACTS = Sdxl().facts(MANIFEST)
SCHEMA = parameters_schema(MANIFEST, FACTS)
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
BODY: dict[str, Any] = {"prompt": "größe 猫", "seed": 5, "steps": 3, "guidance_interval": [0, 1]}
REQUEST = json.dumps({**BODY, "loras": []})
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


Read = Callable[[Path], object]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def check_texts(path: Path, read: Read, sound: str, inputs: Inputs) -> None:
    """The JSON file is read as it should be, and refused in one line as it should not."""
    path.write_text(sound)
    assert refusal(read, path) is None
    for chance in inputs:
        put(path, hostile_json(chance, sound))
        refusal(read, path)


def read_picture(path: Path) -> None:
    read_request(read_recipe(path), SCHEMA)


@pytest.mark.fuzz
@pytest.mark.parametrize("output_format", EXTENSIONS)
def test_pictures(folder: Path, output_format: str, inputs: Inputs) -> None:
    """The file's bytes are changed, or else its recipe, within a file that is sound."""
    path = folder / f"picture.{EXTENSIONS[output_format]}"
    request = read_request({**BODY, "output_format": output_format}, SCHEMA)
    text = infotext(paper_plan(request), MANIFEST, FACTS)
    sound = encode_picture(PIXELS, request, text).content
    path.write_bytes(sound)
    assert refusal(read_picture, path) is None
    for chance in inputs:
        whole = chance.randrange(2) == 0
        content = hostile_bytes(chance, sound) if whole else _with_recipe(chance, path, sound)
        put(path, content)
        refusal(read_picture, path)


def _with_recipe(chance: Random, path: Path, sound: bytes) -> bytes:
    """A file whose lengths and sums are right, and whose recipe is not."""
    recipe = hostile_json(chance, REQUEST).encode("utf-8", "replace")[:60_000]
    if path.suffix == ".png":
        begin = sound.index(b"IDAT") - 4
        kind, beginning = chance.choice(
            [
                (b"tEXt", b"calotype\0"),
                (b"iTXt", b"calotype\0\0\0\0\0"),
                (b"zTXt", b"calotype\0\0"),
                (b"eXIf", b""),
            ]
        )
        content = zlib.compress(recipe) if kind == b"zTXt" else recipe
        content = exif_block(recipe, "")[6:] if kind == b"eXIf" else beginning + content
        if chance.randrange(4) == 0:
            content = hostile_bytes(chance, content)
        chunk = len(content).to_bytes(4, "big") + kind + content
        chunk += zlib.crc32(kind + content).to_bytes(4, "big")
        # In place of the file's own recipe, or before it.
        return sound[:33] + chunk + sound[begin if chance.randrange(2) else 33 :]
    block = exif_block(recipe, odd_text(chance, 9).encode("utf-16", "replace").decode("utf-16"))
    if chance.randrange(4) == 0:
        block = hostile_bytes(chance, block)[:65_533]
    if path.suffix == ".jpg":
        return b"\xff\xd8\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + sound[2:]
    chunk = b"EXIF" + len(block).to_bytes(4, "little") + block + bytes(len(block) % 2)
    content = sound[12 : sound.index(b"EXIF")] + chunk
    return b"RIFF" + (len(content) + 4).to_bytes(4, "little") + b"WEBP" + content


@pytest.mark.fuzz
def test_request_files(folder: Path, inputs: Inputs) -> None:
    def read(path: Path) -> None:
        read_request(_read_body(path), SCHEMA)

    check_texts(folder / "request.json", read, REQUEST, inputs)


@pytest.mark.fuzz
def test_bodies_of_requests(folder: Path, inputs: Inputs) -> None:
    """A body that is refused is answered with a problem that is JSON."""

    def read(path: Path) -> None:
        read_request(parse_body(path.read_bytes()), SCHEMA)

    path = folder / "body"
    path.write_text(REQUEST)
    assert refusal(read, path) is None
    for chance in inputs:
        sound = json.dumps(chance.choice((BODY, {"prompt": "a cat"}, json.loads(REQUEST))))
        body = hostile_json(chance, sound).encode("utf-8", "surrogatepass")
        put(path, body if chance.randrange(4) else hostile_bytes(chance, body))
        fault = refusal(read, path)
        assert json.loads(bytes(problem(422, fault or "").body))["status"] == 422


@pytest.mark.fuzz
def test_configurations_of_schedulers(folder: Path, inputs: Inputs) -> None:
    samplers = iter(Random(0).choices(sorted(SAMPLERS), k=1_000_000))

    def read(path: Path) -> None:
        config = SchedulerConfig.from_mapping(read_json(path))
        step_table(next(samplers), "default", 3, config)

    check_texts(folder / "scheduler_config.json", read, json.dumps(SCHEDULER), inputs)


@pytest.mark.fuzz
def test_configurations_of_flows(folder: Path, inputs: Inputs) -> None:
    def read(path: Path) -> None:
        FlowConfig.from_mapping(read_json(path))

    check_texts(folder / "flow_config.json", read, json.dumps(FLOW), inputs)


def _source(folder: Path) -> Path:
    """A diffusers folder of one network, with every file that a reader opens."""
    source = folder / "source"
    for name in ("unet", "tokenizer", "scheduler"):
        (source / name).mkdir(parents=True, exist_ok=True)
    empty = b"\x02\0\0\0\0\0\0\0{}"
    for name in ("one", "two"):
        (source / "unet" / f"{name}.safetensors").write_bytes(empty)
    (source / "tokenizer" / "tokenizer.json").write_text("{}")
    return source


@pytest.mark.fuzz
def test_folders(folder: Path, inputs: Inputs) -> None:
    """One to four of the folder's files are changed at once."""
    source = _source(folder)
    files = {
        source / "model_index.json": json.dumps(INDEX),
        source / "unet" / "config.json": json.dumps({"_class_name": "UNet2DConditionModel"}),
        source / "unet" / "diffusion_pytorch_model.safetensors.index.json": json.dumps(WEIGHT_MAP),
        source / "tokenizer" / "tokenizer_config.json": json.dumps({"model_max_length": 77}),
        source / "scheduler" / "scheduler_config.json": json.dumps(SCHEDULER),
    }
    readers: list[Read] = [
        lambda path: open_folder(path).network("unet", ("UNet2DConditionModel",)),
        lambda path: open_folder(path).tokenizer("tokenizer"),
        lambda path: open_folder(path).scheduler(),
    ]
    for path, text in files.items():
        path.write_text(text)
    assert [refusal(read, source) for read in readers] == [None] * 3
    for chance in inputs:
        changed = chance.sample(list(files), chance.randint(1, len(files) - 1))
        for path in changed:
            put(path, hostile_json(chance, files[path]))
        for read in readers:
            refusal(read, source)
        for path in changed:
            put(path, files[path])


def _check_sealed(path: Path, read: Read, content: Any, inputs: Inputs) -> None:
    """A sealed file's changes, with a digest that fits and with one that does not."""
    path.write_bytes(_sealed(json.dumps(content)))
    assert refusal(read, path.parent) is None
    sound = path.read_text()
    for chance in inputs:
        text = hostile_json(chance, sound)
        fits = chance.randrange(4)
        put(path, _sealed(text) if fits else text)
        refusal(read, path.parent)


@pytest.mark.fuzz
def test_manifests(folder: Path, inputs: Inputs) -> None:
    content = json.loads((DEMO / MANIFEST_NAME).read_bytes())
    content["roles"] = {name: content["roles"][name] for name in ("denoiser", "text_encoder")}
    for role in content["roles"].values():
        role["parameters"] = dict(list(role["parameters"].items())[:2])
    content["files"] = dict(list(content["files"].items())[:3])
    _check_sealed(folder / MANIFEST_NAME, read_manifest, content, inputs)


@pytest.mark.fuzz
def test_packs(folder: Path, inputs: Inputs) -> None:
    content = json.loads((DEMO / "loras/monochrome" / PACK_NAME).read_bytes())
    content["targets"] = content["targets"][:3]
    pack = folder / "loras" / "pack"
    pack.mkdir(parents=True, exist_ok=True)
    _check_sealed(pack / PACK_NAME, read_pack, content, inputs)


@pytest.mark.fuzz
def test_known_hashes(folder: Path, inputs: Inputs) -> None:
    stamp = {"size_bytes": 1, "mtime_ns": 2, "ctime_ns": 3, "inode": 4, "device": 5}
    content = {"files": {"a": {"sha256": "0" * 64, "stamp": stamp}}, "format": 1}

    def read(path: Path) -> None:
        assert refusal(KnownHashes, path) is None

    _check_sealed(folder / HASHES_NAME, read, content, inputs)


def _sealed(text: str) -> bytes:
    """The text with a digest that fits, where it can have one."""
    try:
        content = json.loads(text)
        content.pop("digest", None)
        return seal(ANYTHING, content)
    except (ValueError, RecursionError, AttributeError, TypeError):
        return text.encode("utf-8", "surrogatepass")


@pytest.mark.fuzz
def test_presets(folder: Path, inputs: Inputs) -> None:
    def read(path: Path) -> None:
        read_preset(str(path))

    path = folder / "preset.toml"
    path.write_bytes(PRESET)
    assert refusal(read, path) is None
    for chance in inputs:
        put(path, hostile_bytes(chance, PRESET))
        refusal(read, path)


def test_a_preset_that_is_nested_without_end(folder: Path) -> None:
    path = folder / "deep.toml"
    path.write_text("source = " + "[" * 100_000)
    assert refusal(lambda path: read_preset(str(path)), path) is not None


def _tokenizer(family: str) -> str:
    """A tokenizer of a family's kind, of a few words; of byte pairs, with the merges that fit."""
    if family == "t5":
        return str(t5_tokenizer(77).backend_tokenizer.to_str())
    own = (
        json.loads((DEMO / "tokenizer.json").read_bytes())
        if family == "clip"
        else json.loads(qwen_tokenizer().backend_tokenizer.to_str())
    )
    model = own["model"]
    merges = [pair for pair in model["merges"] if "".join(pair).removesuffix("</w>").isascii()][:8]
    words = [word for pair in merges for word in (*pair, "".join(pair))]
    words += [word for word in model["vocab"] if len(word.removesuffix("</w>")) == 1][:80]
    words += [token["content"] for token in own["added_tokens"]]
    model["merges"] = merges
    model["vocab"] = {word: number for number, word in enumerate(dict.fromkeys(words))}
    for token in own["added_tokens"]:
        token["id"] = model["vocab"][token["content"]]
    return json.dumps(own)


@pytest.mark.fuzz
@pytest.mark.parametrize("family", ["clip", "t5", "qwen"])
def test_tokenizers(folder: Path, family: str, inputs: Inputs) -> None:
    spec = TokenizerSpec(begin=0, end=1, pad=1, max_length=77)

    def read(path: Path) -> None:
        PromptTokenizer.load(path, spec).ids("a red heart")

    check_texts(folder / "tokenizer.json", read, _tokenizer(family), inputs)


@pytest.mark.fuzz
def test_single_files(folder: Path, inputs: Inputs) -> None:
    path = folder / "single.safetensors"
    for chance in inputs:
        put(path, hostile_file(chance))
        assert refusal(lambda path: open_single_file(path, folder), path) is not None


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

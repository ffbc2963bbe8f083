"""The committed demo model with six random LoRAs, over networks and of kinds, and a word."""

import math
import shutil
from pathlib import Path

from engine_build.lora.packs import LoraRequest, add_pack
from runtime.package.manifest import ModelPackage, read_package
from runtime.package.pack import FOLDER
from tests.places import ENGINES
from tests.tiny.embedding_files import add_word
from tests.tiny.lora_files import LoraWriter, Spelling

ATTENTION = "attentions.0.transformer_blocks.0"
PLACES = (
    f"down_blocks.1.{ATTENTION}.attn1.to_q",
    f"down_blocks.2.{ATTENTION}.ff.net.0.proj",
    f"mid_block.{ATTENTION}.attn2.to_v",
    f"up_blocks.0.{ATTENTION}.attn1.to_out.0",
    "down_blocks.0.resnets.0.conv1",
    "up_blocks.1.resnets.1.conv2",
    "conv_out",
)
WORD = "glaze"
TEXT = "text_model.encoder.layers.0.mlp.fc1"


def demo_with_loras(engines: Path) -> Path:
    """Fill an engines folder: `demo` without its own LoRA, the packs `lora0` to `lora5`, which
    overlap in places, and the embedding WORD.
    """
    shutil.copytree(ENGINES / "demo", engines / "demo", ignore=shutil.ignore_patterns(FOLDER))
    package = read_package(engines, "demo")
    for number in range(6):
        writer = LoraWriter(seed=number)
        for place in (*PLACES[number : number + 3], PLACES[-1]):
            _write(writer, package, place, dora=number == 4, loha=number == 5)
        if number >= 3:
            writer.spelling = Spelling("lora_te2_")
            shape = package.manifest.roles["text_encoder_2"].parameters[f"{TEXT}.weight"].shape
            writer.lora(TEXT, shape, 2, 2.0)
        path = writer.save(engines / f"lora{number}.safetensors")
        add_pack(package, LoraRequest(path, path.name))
    add_word(package, WORD, 2)
    return engines


def _write(
    writer: LoraWriter, package: ModelPackage, place: str, *, dora: bool, loha: bool
) -> None:
    shape = package.manifest.roles["denoiser"].parameters[f"{place}.weight"].shape
    if loha:
        width = math.prod(shape[1:])
        for half in "12":
            writer.add(place, f".hada_w{half}_a", shape[0], 2)
            writer.add(place, f".hada_w{half}_b", 2, width)
        return
    writer.lora(place, shape, 2, 1.0)
    if dora:
        writer.add(place, ".dora_scale", shape[0], *[1] * (len(shape) - 1))

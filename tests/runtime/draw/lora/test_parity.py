"""The same final latents as diffusers with the same LoRA files on the same tiny SDXL.

Where diffusers reads the format, by its own `load_lora_weights` and `set_adapters`; elsewhere with
the weights merged by hand, by the formula in fp64.
"""

import copy
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from engine_build.lora.packs import LoraRequest, add_pack
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.draw.generate import Generator
from runtime.package.manifest import ModelPackage, read_package
from runtime.plan.model import open_model
from tests.parity import ours
from tests.tiny.lora_files import DIFFUSERS, KOHYA, PEFT, LoraWriter, Spelling

BODY: dict[str, Any] = {
    "prompt": "a red apple on a table",
    "negative_prompt": "blurry",
    "sampler": "euler",
    "seed": 5,
    "steps": 4,
    "width": 64,
    "height": 96,
    "cfg_scale": 5.0,
}

ATTENTION = {
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": (
        "input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    ),
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (
        "middle_block_1_transformer_blocks_0_attn2_to_k"
    ),
    "up_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0": (
        "output_blocks_1_1_transformer_blocks_0_attn1_to_out_0"
    ),
    "up_blocks.1.attentions.2.transformer_blocks.0.ff.net.2": (
        "output_blocks_5_1_transformer_blocks_0_ff_net_2"
    ),
}
CONVOLUTIONS = {
    "down_blocks.0.resnets.1.conv1": "input_blocks_2_0_in_layers_2",
    "down_blocks.1.downsamplers.0.conv": "input_blocks_6_0_op",
    "up_blocks.0.resnets.2.conv2": "output_blocks_2_0_out_layers_3",
}
TEXT = "text_model.encoder.layers.1.self_attn.v_proj"


def shape_of(package: ModelPackage, path: str, role: str = "denoiser") -> tuple[int, ...]:
    return package.manifest.roles[role].parameters[f"{path}.weight"].shape


def kohya(writer: LoraWriter, package: ModelPackage) -> None:
    for rank, path in enumerate([*ATTENTION], 2):
        writer.lora(path, shape_of(package, path), rank, 3.0)


def stability(writer: LoraWriter, package: ModelPackage) -> None:
    for rank, (path, name) in enumerate(ATTENTION.items(), 2):
        writer.lora(path, shape_of(package, path), rank, 3.0, name)


def locon(writer: LoraWriter, package: ModelPackage) -> None:
    for rank, (path, name) in enumerate({**ATTENTION, **CONVOLUTIONS}.items(), 2):
        writer.lora(path, shape_of(package, path), rank, 4.0, name)


def of_diffusers(writer: LoraWriter, package: ModelPackage) -> None:
    writer.spelling = DIFFUSERS
    for path in (*ATTENTION, *CONVOLUTIONS):
        writer.lora(path, shape_of(package, path), 2, None)


def of_peft(writer: LoraWriter, package: ModelPackage) -> None:
    writer.spelling = PEFT
    for path in (*ATTENTION, *CONVOLUTIONS):
        writer.lora(path, shape_of(package, path), 2, None)


def dora(writer: LoraWriter, package: ModelPackage) -> None:
    # Of kohya's naming, diffusers leaves the magnitudes out for SDXL, with a warning.
    writer.spelling = DIFFUSERS
    for path in (*ATTENTION, *CONVOLUTIONS):
        shape = shape_of(package, path)
        writer.lora(path, shape, 2, None)
        extents = (shape[0],) if len(shape) == 2 else (1, shape[0], 1, 1)
        magnitude = writer.random(*extents).abs() + 0.5
        writer.tensors[writer.spelling.module(path) + ".lora_magnitude_vector"] = magnitude


def loha(writer: LoraWriter, package: ModelPackage) -> None:
    for path in (*ATTENTION, *CONVOLUTIONS):
        out, *inputs = shape_of(package, path)
        halves = [
            writer.add(path, f".hada_w{half}_a", out, 3)
            @ writer.add(path, f".hada_w{half}_b", 3, int(np.prod(inputs)))
            for half in (1, 2)
        ]
        writer.changes[path] = (halves[0] * halves[1]).reshape(out, *inputs)


def lokr(writer: LoraWriter, package: ModelPackage) -> None:
    for path in ATTENTION:
        out, inputs = shape_of(package, path)
        small = writer.add(path, ".lokr_w1", 4, 4)
        large = writer.add(path, ".lokr_w2_a", out // 4, 2) @ writer.add(
            path, ".lokr_w2_b", 2, inputs // 4
        )
        writer.changes[path] = torch.kron(small, large)


def full(writer: LoraWriter, package: ModelPackage) -> None:
    """Differences of weights, of biases and of norms, as LyCORIS writes them."""
    out = next(path for path in ATTENTION if path.endswith("to_out.0"))
    conv = next(iter(CONVOLUTIONS))
    norm = conv.replace("conv1", "norm1")
    for path, weight, bias in (
        (out, ".diff", ".diff_b"),
        (conv, ".diff", ".diff_b"),
        (norm, ".w_norm", ".b_norm"),
    ):
        shape = shape_of(package, path)
        writer.changes[path] = writer.add(path, weight, *shape)
        writer.changes[f"{path}.bias"] = writer.add(path, bias, shape[0])


def text(writer: LoraWriter, package: ModelPackage) -> None:
    for role, prefix in (("text_encoder", "lora_te1_"), ("text_encoder_2", "lora_te2_")):
        writer.spelling = Spelling(prefix)
        writer.lora(TEXT, shape_of(package, TEXT, role), 2, 4.0)
        writer.changes[f"{role}:{TEXT}"] = writer.changes.pop(TEXT)


READ_BY_DIFFUSERS = (kohya, stability, locon, of_diffusers, dora)
MERGED_BY_HAND = (kohya, of_peft, loha, lokr, full, text)
Kind = Callable[[LoraWriter, ModelPackage], None]


def names(kind: Kind) -> str:
    return kind.__name__


@pytest.fixture(scope="module")
def engines(tiny_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `tiny` with a pack of every kind, twice, of other random numbers."""
    engines = tmp_path_factory.mktemp("engines")
    shutil.copytree(tiny_package / "tiny", engines / "tiny")
    package = read_package(engines, "tiny")
    for kind in {*READ_BY_DIFFUSERS, *MERGED_BY_HAND}:
        for number in range(2):
            path = engines / f"{kind.__name__}{number}.safetensors"
            written(kind, number, package).save(path)
            add_pack(package, LoraRequest(path, path.name))
    return engines


def written(kind: Kind, number: int, package: ModelPackage) -> LoraWriter:
    writer = LoraWriter(KOHYA, seed=number)
    kind(writer, package)
    return writer


@pytest.fixture(scope="module")
def generator(engines: Path) -> Generator:
    model = open_model(engines, "tiny")
    return Generator(model, OnnxRuntimeCpu(model.package))


@pytest.fixture(scope="module")
def pipeline(tiny_source: Path) -> diffusers.StableDiffusionXLPipeline:
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(tiny_source, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: diffusers.StableDiffusionXLPipeline) -> np.ndarray:
    latents: torch.Tensor = pipeline(
        BODY["prompt"],
        negative_prompt=BODY["negative_prompt"],
        height=BODY["height"],
        width=BODY["width"],
        num_inference_steps=BODY["steps"],
        guidance_scale=BODY["cfg_scale"],
        generator=torch.Generator().manual_seed(BODY["seed"]),
        output_type="latent",
    ).images
    return latents.numpy()


def assert_near(
    generator: Generator, weights: Mapping[str, float], expected: np.ndarray, base: np.ndarray
) -> None:
    loras = [{"id": name, "weight": weight} for name, weight in weights.items()]
    found, _ = ours(generator, {**BODY, "loras": loras})
    largest = np.abs(expected).max()
    assert np.abs(expected - base).max() > 0.01 * largest, "the LoRA hardly changes the picture"
    assert np.abs(found - expected).max() < 1e-3 * largest


WEIGHTS = ((0.8,), (0.6, -0.9))


@pytest.mark.parametrize("weights", WEIGHTS, ids=["one", "two"])
@pytest.mark.parametrize("kind", READ_BY_DIFFUSERS, ids=names)
def test_as_diffusers_loads_it(
    kind: Kind,
    weights: tuple[float, ...],
    generator: Generator,
    engines: Path,
    pipeline: diffusers.StableDiffusionXLPipeline,
) -> None:
    base = draw(pipeline)
    adapters = [f"{kind.__name__}{number}" for number in range(len(weights))]
    for name in adapters:
        pipeline.load_lora_weights(engines, weight_name=f"{name}.safetensors", adapter_name=name)
    try:
        pipeline.set_adapters(adapters, list(weights))
        expected = draw(pipeline)
    finally:
        pipeline.unload_lora_weights()
    assert_near(generator, dict(zip(adapters, weights, strict=True)), expected, base)


@pytest.mark.parametrize("weights", WEIGHTS, ids=["one", "two"])
@pytest.mark.parametrize("kind", MERGED_BY_HAND, ids=names)
def test_as_merged_by_hand(
    kind: Kind,
    weights: tuple[float, ...],
    generator: Generator,
    pipeline: diffusers.StableDiffusionXLPipeline,
) -> None:
    base = draw(pipeline)
    merged = copy.copy(pipeline)
    merged.register_modules(
        unet=copy.deepcopy(pipeline.unet),
        text_encoder=copy.deepcopy(pipeline.text_encoder),
        text_encoder_2=copy.deepcopy(pipeline.text_encoder_2),
    )
    for number, weight in enumerate(weights):
        for place, change in written(kind, number, generator.model.package).changes.items():
            role, _, path = place.rpartition(":")
            module = getattr(merged, role or "unet")
            layers = dict(module.named_modules())
            path = path.removesuffix(".bias")
            layer = layers.get(path) or layers[path.removeprefix("text_model.")]
            changed = layer.bias if place.endswith(".bias") else layer.weight
            changed.data += (weight * change).float()
    expected = draw(merged)
    weighted = {f"{kind.__name__}{number}": weight for number, weight in enumerate(weights)}
    assert_near(generator, weighted, expected, base)

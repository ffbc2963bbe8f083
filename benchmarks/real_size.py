"""Writes a model of published size, with distinct random weights or none, as a diffusers folder.

The files around the networks (tokenizers, scheduler, model_index.json) come from the tiny model of
the family (`benchmarks.tiny`); each network's config.json and weights are then replaced, and a
tokenizer that reads texts of another length than the published one is told that length. No network
is ever in memory: random bits are written piece by piece (`benchmarks.random_weights`). Where the
numbers do not matter, sparse files are written instead: they have every tensor's name, dtype and
shape, and take no room on disk.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
import transformers
from accelerate import init_empty_weights
from tqdm import tqdm

from benchmarks.random_weights import (
    fill,
    fill_hollow,
    numbers_bytes,
    stretch,
    weights_of,
    write_header,
)
from benchmarks.tiny import flow_models, models, zimage_models

SHARD_BYTES = 4 * 10**9


@dataclass(frozen=True, slots=True)
class Network:
    """One component at its published size."""

    name: str
    class_name: str
    settings: Mapping[str, Any]
    """Entries of config.json that are added to, or replace, those of the tiny model."""
    dtype: str
    shallow: Mapping[str, Any] = field(default_factory=dict)
    """Entries of config.json for a network with few of the blocks that are all alike."""

    def parameters(self, folder: Path) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, from diffusers' or transformers' own class."""
        config = json.loads((folder / self.name / "config.json").read_text())
        with init_empty_weights():
            network: Any
            if hasattr(diffusers, self.class_name):
                network = getattr(diffusers, self.class_name).from_config(config)
            else:
                network_class = getattr(transformers, self.class_name)
                network = network_class(network_class.config_class.from_dict(config))
                # Parameters without memory are not tied at construction.
                network.tie_weights()
        return {name: tuple(value.shape) for name, value in network.named_parameters()}


@dataclass(frozen=True, slots=True)
class RealModel:
    """Model line: writer of the tiny folder to start from, and the networks to replace in it."""

    save_tiny: Callable[[Path], Path]
    networks: tuple[Network, ...]
    text_lengths: Mapping[str, int] = field(default_factory=dict)
    """Published lengths of texts in tokens, by the tokenizer that the tiny model has shorter."""

    def save_around(self, folder: Path) -> None:
        """Write the tiny folder, its tokenizers with the published lengths."""
        self.save_tiny(folder)
        for tokenizer, length in self.text_lengths.items():
            path = folder / tokenizer / "tokenizer_config.json"
            content = {**json.loads(path.read_text()), "model_max_length": length}
            path.write_text(json.dumps(content, indent=2))


_CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 49408,
}
_CLIP_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "vocab_size": 49408,
}
_SDXL_UNET = {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "attention_head_dim": [5, 10, 20],
    "transformer_layers_per_block": [1, 2, 10],
    "cross_attention_dim": 2048,
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "norm_num_groups": 32,
}
_TAESD = {
    "encoder_block_out_channels": [64] * 4,
    "decoder_block_out_channels": [64] * 4,
    "num_encoder_blocks": [1, 3, 3, 3],
    "num_decoder_blocks": [3, 3, 3, 1],
}
_VAE = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32}

_T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
}
_FEW_T5 = {"num_layers": 2}
_T5_TOKENS = 512
_QWEN3_4B = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "layer_types": ["full_attention"] * 36,
    "max_window_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
_PACKED = {
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "axes_dims_rope": [16, 56, 56],
}
_FEW_PACKED = {"num_layers": 2, "num_single_layers": 2}
_APPROXIMATOR = {
    "approximator_num_channels": 64,
    "approximator_hidden_dim": 5120,
    "approximator_layers": 5,
}
_Z_IMAGE = {
    "dim": 3840,
    "n_layers": 30,
    "n_refiner_layers": 2,
    "n_heads": 30,
    "n_kv_heads": 30,
    "cap_feat_dim": 2560,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
}


def _folder(make: Callable[[], diffusers.DiffusionPipeline]) -> Callable[[Path], Path]:
    return lambda directory: flow_models.save_flow_source(directory, make())


_FLOW_VAE = Network("vae", "AutoencoderKL", _VAE, "BF16")


def _flux(make: Callable[[], diffusers.DiffusionPipeline]) -> RealModel:
    return RealModel(
        _folder(make),
        (
            Network(
                "transformer",
                "FluxTransformer2DModel",
                {**_PACKED, "pooled_projection_dim": 768},
                "BF16",
                shallow=_FEW_PACKED,
            ),
            Network("text_encoder", "CLIPTextModel", _CLIP_L, "BF16"),
            Network("text_encoder_2", "T5EncoderModel", _T5_XXL, "BF16", shallow=_FEW_T5),
            _FLOW_VAE,
        ),
        {"tokenizer_2": _T5_TOKENS},
    )


MODELS: Mapping[str, RealModel] = {
    "sdxl": RealModel(
        models.save_source,
        (
            Network(
                "unet",
                "UNet2DConditionModel",
                _SDXL_UNET,
                "F16",
                shallow={"transformer_layers_per_block": 1},
            ),
            Network("text_encoder", "CLIPTextModel", _CLIP_L, "F16"),
            Network("text_encoder_2", "CLIPTextModelWithProjection", _CLIP_G, "F16"),
            Network("vae", "AutoencoderKL", _VAE, "F16"),
            Network("preview_decoder", "AutoencoderTiny", _TAESD, "F16"),
        ),
    ),
    "flux-dev": _flux(flow_models.flux_dev_pipeline),
    "flux-schnell": _flux(flow_models.flux_schnell_pipeline),
    "chroma": RealModel(
        _folder(flow_models.chroma_pipeline),
        (
            Network(
                "transformer",
                "ChromaTransformer2DModel",
                {**_PACKED, **_APPROXIMATOR},
                "BF16",
                shallow=_FEW_PACKED,
            ),
            Network("text_encoder", "T5EncoderModel", _T5_XXL, "BF16", shallow=_FEW_T5),
            _FLOW_VAE,
        ),
        {"tokenizer": _T5_TOKENS},
    ),
    "zimage": RealModel(
        _folder(zimage_models.zimage_pipeline),
        (
            Network(
                "transformer", "ZImageTransformer2DModel", _Z_IMAGE, "BF16", shallow={"n_layers": 2}
            ),
            Network("text_encoder", "Qwen3Model", _QWEN3_4B, "BF16"),
            _FLOW_VAE,
        ),
    ),
}


def write_model(name: str, folder: Path) -> Path:
    """Write `folder` anew with random weights and show progress; returns `folder`."""
    model = MODELS[name]
    model.save_around(folder)
    for network in model.networks:
        _write_network(network, folder)
    fill_hollow(folder)
    return folder


def write_hollow(name: str, folder: Path, *, shallow: bool, shard_bytes: int = SHARD_BYTES) -> Path:
    """Write `folder` anew with sparse files in the place of weights; returns `folder`.

    A file of weights ends with the tensor that brings it beyond `shard_bytes`. Denoisers and T5 of
    a `shallow` model are as wide as published and have few blocks of a kind.
    """
    model = MODELS[name]
    model.save_around(folder)
    for network in model.networks:
        settings = {**network.settings, **(network.shallow if shallow else {})}
        _write_network(replace(network, settings=settings), folder, shard_bytes)
    for path in weights_of(folder):
        stretch(path)
    return folder


def write_weights(name: str, component: str, folder: Path) -> dict[str, tuple[int, ...]]:
    """Write the weights of one network alone, as `folder/COMPONENT.safetensors` in fp16 or bf16.

    Returns the shapes of the network's parameters by name.
    """
    model = MODELS[name]
    (network,) = (each for each in model.networks if each.name == component)
    model.save_around(folder / "tiny")
    _configure(network, folder / "tiny")
    shapes = network.parameters(folder / "tiny")
    path = folder / f"{component}.safetensors"
    write_header(path, shapes, network.dtype)
    with tqdm(total=numbers_bytes(path), unit="B", unit_scale=True, desc=component) as bar:
        fill(path, bar.update)
    return shapes


def _configure(network: Network, folder: Path) -> None:
    path = folder / network.name / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **network.settings}, indent=2))


def _write_network(network: Network, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write one network's files; those of its weights are hollow."""
    directory = folder / network.name
    for old in directory.glob("*.safetensors*"):
        old.unlink()
    _configure(network, folder)
    stem = "diffusion_pytorch_model" if hasattr(diffusers, network.class_name) else "model"
    shards = list(_shards(network.parameters(folder), shard_bytes))
    weight_map = {}
    for index, shard in enumerate(shards, start=1):
        file = f"{stem}-{index:05d}-of-{len(shards):05d}.safetensors"
        file = file if len(shards) > 1 else f"{stem}.safetensors"
        write_header(directory / file, shard, network.dtype)
        weight_map.update(dict.fromkeys(shard, file))
    if len(shards) > 1:
        index_file = directory / f"{stem}.safetensors.index.json"
        index_file.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _shards(
    parameters: Mapping[str, tuple[int, ...]], shard_bytes: int
) -> Iterator[dict[str, tuple[int, ...]]]:
    shard: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in parameters.items():
        if shard and size > shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += 2 * math.prod(shape)
    yield shard

"""Writes a tiny SDXL pipeline as one file in SGM's naming: diffusers' own way there, backwards."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file

State = dict[str, torch.Tensor]

_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}


def write(pipeline: StableDiffusionXLPipeline, path: Path, **saved: Mapping[str, str]) -> Path:
    """One file with all four networks, as SDXL is published."""
    save_file(state(pipeline), path, **saved)
    return path


def state(pipeline: StableDiffusionXLPipeline) -> State:
    parts = {
        "model.diffusion_model.": unet(
            pipeline.unet.state_dict(), pipeline.unet.config.layers_per_block
        ),
        "first_stage_model.": vae(
            pipeline.vae.state_dict(), len(pipeline.vae.config.block_out_channels)
        ),
        "conditioner.embedders.0.transformer.": clip(pipeline.text_encoder.state_dict()),
        "conditioner.embedders.1.model.": open_clip(pipeline.text_encoder_2.state_dict()),
    }
    return {
        prefix + name: value.contiguous()
        for prefix, part in parts.items()
        for name, value in part.items()
    }


def unet(networks: State, layers: int) -> State:
    with_attention = {
        name.split(".")[1]
        for name in networks
        if name.startswith("up_blocks.") and ".attentions." in name
    }
    return {_unet_name(name, layers, with_attention): value for name, value in networks.items()}


def _unet_name(name: str, layers: int, with_attention: set[str]) -> str:
    for new, old in _UNET_ENDS.items():
        if name.startswith(new + "."):
            return name.replace(new, old, 1)
    side, rest = name.split(".", 1)
    if side == "mid_block":
        for new, old in _MIDDLE.items():
            if rest.startswith(new + "."):
                return f"middle_block.{old}.{_resnet(rest.removeprefix(new + '.'), new)}"
    level, kind, index, inner = rest.split(".", 3)
    level_begins = int(level) * (layers + 1)
    if kind == "downsamplers":
        return f"input_blocks.{level_begins + layers + 1}.0.op.{inner.removeprefix('conv.')}"
    if kind == "upsamplers":
        part = 2 if level in with_attention else 1
        return f"output_blocks.{level_begins + layers}.{part}.{inner}"
    block = level_begins + int(index) + (1 if side == "down_blocks" else 0)
    where = f"{'input' if side == 'down_blocks' else 'output'}_blocks.{block}"
    return f"{where}.{0 if kind == 'resnets' else 1}.{_resnet(inner, kind)}"


def _resnet(name: str, kind: str) -> str:
    module, _, rest = name.partition(".")
    return f"{_RESNET[module]}.{rest}" if kind.startswith("resnets") else name


def vae(network: State, levels: int) -> State:
    """Attention is saved as 1x1 convolutions, and the decoder's levels count from the finest."""
    named: State = {}
    for name, value in network.items():
        old = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
        old = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", old)
        old = re.sub(
            r"up_blocks\.(\d+)\.resnets\.(\d+)",
            lambda found: f"up.{levels - 1 - int(found[1])}.block.{found[2]}",
            old,
        )
        old = re.sub(
            r"up_blocks\.(\d+)\.upsamplers\.0",
            lambda found: f"up.{levels - 1 - int(found[1])}.upsample",
            old,
        )
        old = re.sub(
            r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", old
        )
        old = old.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0." in old:
            for new, short in (("group_norm", "norm"), ("to_out.0", "proj_out"), ("to_", "")):
                old = old.replace(f"attentions.0.{new}", f"attentions.0.{short}")
            old = old.replace("mid_block.attentions.0", "mid.attn_1")
        convolution = "mid.attn_1" in old and value.ndim == 2
        named[old] = value[:, :, None, None] if convolution else value
    return named


def clip(network: State) -> State:
    """As transformers named it when SDXL was published."""
    return {
        f"text_model.{name.removeprefix('text_model.')}": value for name, value in network.items()
    }


def open_clip(network: State) -> State:
    named: State = {"text_projection": network["text_projection.weight"].T}
    words = {
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm.": "ln_final.",
        "text_model.encoder.layers.": "transformer.resblocks.",
        ".layer_norm1.": ".ln_1.",
        ".layer_norm2.": ".ln_2.",
        ".mlp.fc1.": ".mlp.c_fc.",
        ".mlp.fc2.": ".mlp.c_proj.",
        ".self_attn.": ".attn.",
    }
    fused: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in network.items():
        if name == "text_projection.weight":
            continue
        old = name
        for new, word in words.items():
            old = old.replace(new, word)
        letter = re.search(r"\.([qkv])_proj\.(weight|bias)$", old)
        if letter:
            where = f"{old[: letter.start()]}.in_proj_{letter[2]}"
            fused.setdefault(where, {})[letter[1]] = value
        else:
            named[old] = value
    named.update({where: torch.cat([part[k] for k in "qkv"]) for where, part in fused.items()})
    return named

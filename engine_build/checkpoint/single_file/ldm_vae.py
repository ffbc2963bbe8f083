"""The VAE in the naming of latent diffusion (LDM), which all single files have kept."""

import re
from collections.abc import Mapping
from typing import Any

from engine_build.checkpoint.single_file.family import NetworkInFile, Tensors
from engine_build.checkpoint.weights import StoredTensor

_NAMES = {
    "norm_out.": "conv_norm_out.",
    "mid.block_1.": "mid_block.resnets.0.",
    "mid.block_2.": "mid_block.resnets.1.",
    "mid.attn_1.norm.": "mid_block.attentions.0.group_norm.",
    "mid.attn_1.q.": "mid_block.attentions.0.to_q.",
    "mid.attn_1.k.": "mid_block.attentions.0.to_k.",
    "mid.attn_1.v.": "mid_block.attentions.0.to_v.",
    "mid.attn_1.proj_out.": "mid_block.attentions.0.to_out.0.",
}
_LEVEL = re.compile(r"(down|up)\.(\d+)\.(?:block\.(\d+)|(?:down|up)sample)\.(.+)")


def vae_name(name: str, levels: int) -> str:
    """A VAE parameter's name in diffusers. LDM counts the decoder's levels from the finest."""
    half, dot, inner = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    match = _LEVEL.fullmatch(inner)
    if match is None:
        renamed = replace_beginning(inner, _NAMES)
    else:
        side, index, layer, rest = match.groups()
        level = int(index) if side == "down" else levels - 1 - int(index)
        part = f"{side}samplers.0" if layer is None else f"resnets.{layer}"
        renamed = f"{side}_blocks.{level}.{part}.{rest}"
    return half + dot + renamed.replace(".nin_shortcut.", ".conv_shortcut.")


def replace_beginning(name: str, beginnings: Mapping[str, str]) -> str:
    """A name with the first of these beginnings that it has replaced."""
    for old, new in beginnings.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _vae(tensors: Tensors, config: Mapping[str, Any]) -> dict[str, StoredTensor]:
    levels = len(config.get("block_out_channels", ()))
    return {vae_name(name, levels): tensor for name, tensor in tensors.items()}


VAE = NetworkInFile(("first_stage_model.", "vae."), ("decoder.",), _vae)

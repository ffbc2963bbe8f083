"""Chroma in its original naming, beside ComfyUI's names of the encoders and the VAE."""

import re
from collections.abc import Mapping
from typing import Any

from engine_build.checkpoint.single_file import bfl
from engine_build.checkpoint.single_file.family import (
    DENOISER_PREFIXES,
    T5_XXL,
    NetworkInFile,
    SingleFileFamily,
    Tensors,
)
from engine_build.checkpoint.single_file.ldm_vae import VAE
from engine_build.checkpoint.weights import StoredTensor

_GUIDANCE_LAYER = re.compile(r"(distilled_guidance_layer\.layers\.\d+)\.(in|out)_layer\.(.+)")


def transformer(tensors: Tensors, _config: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """The transformer under diffusers' names: Flux's blocks, whose modulation one small network
    computes for all of them."""
    return {_guidance(name): tensor for name, tensor in bfl.transformer(tensors, {}).items()}


def _guidance(name: str) -> str:
    layer = _GUIDANCE_LAYER.fullmatch(name)
    return f"{layer[1]}.linear_{1 if layer[2] == 'in' else 2}.{layer[3]}" if layer else name


CHROMA = SingleFileFamily(
    title="Chroma",
    pipeline_class="ChromaPipeline",
    usual_base=lambda _tensors: "lodestones/Chroma1-HD",
    denoiser="transformer",
    networks={
        "transformer": NetworkInFile(DENOISER_PREFIXES, bfl.MARKS, transformer),
        "vae": VAE,
        "text_encoder": T5_XXL,
    },
    scheduler=lambda base, _header: base,
)

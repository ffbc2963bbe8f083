"""Chroma's transformer in its original naming; all else of the pipeline comes from the base."""

import re
from collections.abc import Mapping
from typing import Any

from engine_build.checkpoint.single_file import bfl
from engine_build.checkpoint.single_file.family import NetworkInFile, SingleFileFamily, Tensors
from engine_build.checkpoint.weights import StoredTensor

_GUIDANCE_LAYER = re.compile(r"(distilled_guidance_layer\.layers\.\d+)\.(in|out)_layer\.(.+)")
_GUIDANCE_NORM = re.compile(r"(distilled_guidance_layer\.norms\.\d+)\.scale")


def transformer(tensors: Tensors, _config: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """The transformer under diffusers' names: Flux's blocks, whose modulation one small network
    computes for all of them."""
    return {_guidance(name): tensor for name, tensor in bfl.transformer(tensors, {}).items()}


def _guidance(name: str) -> str:
    layer, norm = _GUIDANCE_LAYER.fullmatch(name), _GUIDANCE_NORM.fullmatch(name)
    if layer:
        return f"{layer[1]}.linear_{1 if layer[2] == 'in' else 2}.{layer[3]}"
    return f"{norm[1]}.weight" if norm else name


CHROMA = SingleFileFamily(
    title="Chroma",
    pipeline_class="ChromaPipeline",
    usual_base="lodestones/Chroma1-HD",
    networks={"transformer": NetworkInFile(bfl.PREFIXES, transformer)},
    scheduler=lambda base, _header: base,
)

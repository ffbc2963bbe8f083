"""Flux's transformer in its original naming; all else of the pipeline comes from the base."""

from collections.abc import Mapping
from typing import Any

from engine_build.checkpoint.single_file import bfl
from engine_build.checkpoint.single_file.family import (
    NetworkInFile,
    SingleFileFamily,
    Tensors,
)
from engine_build.checkpoint.weights import StoredTensor
from runtime.errors import SourceError

_EMBEDDERS = {
    "time_in": "timestep_embedder",
    "vector_in": "text_embedder",
    "guidance_in": "guidance_embedder",
}
_OTHERS = {
    f"{old}.{layer}": f"time_text_embed.{new}.{linear}"
    for old, new in _EMBEDDERS.items()
    for layer, linear in (("in_layer", "linear_1"), ("out_layer", "linear_2"))
}
_LAST_NORM = "final_layer.adaLN_modulation.1"


def transformer(tensors: Tensors, config: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """The transformer under diffusers' names. The rows of the last norm's layer are shift, then
    scale, in the file; scale, then shift, in diffusers. Raises SourceError where the file is of
    Flux dev and the base of schnell, or the other way round."""
    _check_guidance(tensors, config)
    named = bfl.transformer(tensors, {**_OTHERS, _LAST_NORM: "norm_out.linear"})
    for kind in ("weight", "bias"):
        if f"norm_out.linear.{kind}" in named:
            named[f"norm_out.linear.{kind}"] = named[f"norm_out.linear.{kind}"].swapped()
    return named


def _check_guidance(tensors: Tensors, config: Mapping[str, Any]) -> None:
    guided = any(name.startswith("guidance_in.") for name in tensors)
    if guided != bool(config.get("guidance_embeds", False)):
        path = next(iter(tensors.values())).path
        kind, base = ("dev", "FLUX.1-dev") if guided else ("schnell", "FLUX.1-schnell")
        raise SourceError(
            f"{path}: a transformer of the kind of Flux {kind}, but the base is of the other kind; "
            f"expected --base black-forest-labs/{base}"
        )


FLUX = SingleFileFamily(
    title="Flux",
    pipeline_class="FluxPipeline",
    usual_base="black-forest-labs/FLUX.1-dev (or FLUX.1-schnell)",
    networks={"transformer": NetworkInFile(bfl.PREFIXES, transformer)},
    scheduler=lambda base, _header: base,
)

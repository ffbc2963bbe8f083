"""Flux in Black Forest Labs' naming, beside ComfyUI's names of the encoders and the VAE."""

from collections.abc import Mapping
from typing import Any

from engine_build.checkpoint.single_file import bfl
from engine_build.checkpoint.single_file.family import (
    DENOISER_PREFIXES,
    T5_XXL,
    NetworkInFile,
    SingleFileFamily,
    Tensors,
    encoder,
)
from engine_build.checkpoint.single_file.ldm_vae import VAE
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
    if any(name.startswith(bfl.DIFFUSERS_MARK) for name in tensors):
        return dict(tensors)
    named = bfl.transformer(tensors, {**_OTHERS, _LAST_NORM: "norm_out.linear"})
    for kind in ("weight", "bias"):
        if f"norm_out.linear.{kind}" in named:
            named[f"norm_out.linear.{kind}"] = named[f"norm_out.linear.{kind}"].swapped()
    return named


def _check_guidance(tensors: Tensors, config: Mapping[str, Any]) -> None:
    guided = _is_guided(tensors)
    if guided != bool(config.get("guidance_embeds", False)):
        path = next(iter(tensors.values())).path
        kind = "dev" if guided else "schnell"
        raise SourceError(
            f"{path}: a transformer of the kind of Flux {kind}, but the base is of the other kind; "
            f"expected --base {_usual_base(tensors)}"
        )


def _is_guided(tensors: Tensors) -> bool:
    return any("guidance_in." in name or "guidance_embedder." in name for name in tensors)


def _usual_base(tensors: Tensors) -> str:
    return f"black-forest-labs/FLUX.1-{'dev' if _is_guided(tensors) else 'schnell'}"


FLUX = SingleFileFamily(
    title="Flux",
    pipeline_class="FluxPipeline",
    usual_base=_usual_base,
    denoiser="transformer",
    networks={
        "transformer": NetworkInFile(DENOISER_PREFIXES, bfl.MARKS, transformer),
        "vae": VAE,
        "text_encoder": encoder("clip_l", "text_model."),
        "text_encoder_2": T5_XXL,
    },
    scheduler=lambda base, _header: base,
)

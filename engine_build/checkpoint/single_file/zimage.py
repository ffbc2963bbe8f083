"""Z-Image in its original naming, beside ComfyUI's names of the encoders and the VAE."""

from collections.abc import Mapping
from typing import Any

from engine_build.checkpoint.single_file.family import (
    DENOISER_PREFIXES,
    NetworkInFile,
    SingleFileFamily,
    Tensors,
    encoder,
)
from engine_build.checkpoint.single_file.ldm_vae import VAE
from engine_build.checkpoint.weights import StoredTensor

# diffusers names the ends by the patches that they are for: 2 by 2 latents, of 1 frame.
_ENDS = {"x_embedder.": "all_x_embedder.2-1.", "final_layer.": "all_final_layer.2-1."}
_ATTENTION = {
    ".attention.q_norm.": ".attention.norm_q.",
    ".attention.k_norm.": ".attention.norm_k.",
    ".attention.out.": ".attention.to_out.0.",
}
_FUSED = ".attention.qkv."
_PARTS = (".attention.to_q.", ".attention.to_k.", ".attention.to_v.")


def transformer(tensors: Tensors, _config: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """The transformer under diffusers' names; query, key and value lie in one matrix."""
    named: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        if _FUSED not in name:
            named[_renamed(name)] = tensor
            continue
        third = tensor.shape[0] // 3
        for index, part in enumerate(_PARTS):
            rows = tensor.rows(index * third, (index + 1) * third)
            named[name.replace(_FUSED, part)] = rows
    return named


def _renamed(name: str) -> str:
    for old, new in _ENDS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    for old, new in _ATTENTION.items():
        name = name.replace(old, new)
    return name


ZIMAGE = SingleFileFamily(
    title="Z-Image",
    pipeline_class="ZImagePipeline",
    usual_base=lambda _tensors: "Tongyi-MAI/Z-Image-Turbo",
    denoiser="transformer",
    networks={
        "transformer": NetworkInFile(DENOISER_PREFIXES, ("cap_pad_token",), transformer),
        "vae": VAE,
        "text_encoder": encoder("qwen3_4b", "model.layers.", "layers."),
    },
    scheduler=lambda base, _header: base,
)

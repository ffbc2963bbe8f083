"""SDXL and its descendants in the original naming of Stability's generative-models (SGM)."""

import re
from collections.abc import Mapping
from typing import Any

from engine_build.checkpoint.single_file.family import (
    DENOISER_PREFIXES,
    NetworkInFile,
    SingleFileFamily,
    SingleFileHeader,
    Tensors,
    as_named,
)
from engine_build.checkpoint.single_file.ldm_vae import VAE, replace_beginning
from engine_build.checkpoint.single_file.stability import diffusers_module
from engine_build.checkpoint.weights import StoredTensor
from runtime.errors import SourceError

_OPEN_CLIP = {
    "token_embedding.": "text_model.embeddings.token_embedding.",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.": "text_model.final_layer_norm.",
}
_OPEN_CLIP_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_OPEN_CLIP_LAYER = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
    "attn.out_proj.": "self_attn.out_proj.",
}
_FUSED = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")


def open_clip(tensors: Tensors) -> dict[str, StoredTensor]:
    """OpenCLIP's text tower under the names of transformers. In the file, query, key and value lie
    in one matrix, and the text projection is transposed."""
    named: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        fused = _FUSED.fullmatch(name)
        block = _OPEN_CLIP_BLOCK.fullmatch(name)
        if fused:
            third = tensor.shape[0] // 3
            for index, letter in enumerate("qkv"):
                where = f"text_model.encoder.layers.{fused[1]}.self_attn.{letter}_proj.{fused[2]}"
                named[where] = tensor.rows(index * third, (index + 1) * third)
        elif block:
            layer = replace_beginning(block[2], _OPEN_CLIP_LAYER)
            named[f"text_model.encoder.layers.{block[1]}.{layer}"] = tensor
        elif name == "text_projection":
            named["text_projection.weight"] = tensor.transposed()
        else:
            named[replace_beginning(name, _OPEN_CLIP)] = tensor
    return named


def scheduler(base: Mapping[str, Any], header: SingleFileHeader) -> Mapping[str, Any]:
    """The base's scheduler, with the prediction type and zero-terminal SNR that the file states.

    Empty tensors named `v_pred` and `ztsnr`, which every interface reads, state the two; metadata
    may state the prediction type. The tensors win, since merges carry stale metadata along. With
    zero-terminal SNR the timesteps must be trailing, or no step would begin at the pure noise that
    the model was trained for (https://arxiv.org/abs/2305.08891, section 3.3).
    """
    changes: dict[str, Any] = {}
    prediction = _prediction(header)
    if prediction is not None:
        changes["prediction_type"] = prediction
    if "ztsnr" in header.tensors:
        changes["rescale_betas_zero_snr"] = True
        changes["timestep_spacing"] = "trailing"
    return {**base, **changes}


def _prediction(header: SingleFileHeader) -> str | None:
    if "v_pred" in header.tensors:
        return "v_prediction"
    for key in ("modelspec.prediction_type", "modelspec.predict_key"):
        said = header.metadata.get(key, "").strip().lower()
        if said and said not in _PREDICTIONS:
            raise SourceError(
                f"{header.path}: its metadata says {key} = {said!r}, expected "
                f"{' or '.join(_PREDICTIONS)}; no sampler of ours knows another"
            )
        if said:
            return _PREDICTIONS[said]
    return None


_PREDICTIONS = {
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "v-prediction": "v_prediction",
    "epsilon": "epsilon",
    "eps": "epsilon",
}


def _unet(tensors: Tensors, config: Mapping[str, Any]) -> dict[str, StoredTensor]:
    layers = int(config.get("layers_per_block", 2))
    named: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        module, dot, kind = name.rpartition(".")
        named[diffusers_module(module, layers) + dot + kind] = tensor
    return named


SDXL = SingleFileFamily(
    title="SDXL",
    pipeline_class="StableDiffusionXLPipeline",
    usual_base=lambda _tensors: "stabilityai/stable-diffusion-xl-base-1.0",
    denoiser="unet",
    networks={
        # The second mark is diffusers' own naming, which has nothing to rename.
        "unet": NetworkInFile(DENOISER_PREFIXES, ("input_blocks.", "down_blocks."), _unet),
        "vae": VAE,
        "text_encoder": NetworkInFile(
            ("conditioner.embedders.0.transformer.",),
            ("text_model.", "encoder.", "embeddings."),
            as_named,
        ),
        "text_encoder_2": NetworkInFile(
            ("conditioner.embedders.1.model.",),
            ("transformer.resblocks.",),
            lambda tensors, _: open_clip(tensors),
        ),
    },
    scheduler=scheduler,
)

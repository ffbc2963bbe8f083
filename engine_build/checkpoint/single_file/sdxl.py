"""SDXL and its descendants in the original naming of Stability's generative-models (SGM)."""

import re
from collections.abc import Mapping
from typing import Any

from engine_build.checkpoint.single_file.family import (
    NetworkInFile,
    SingleFileFamily,
    SingleFileHeader,
    Tensors,
)
from engine_build.checkpoint.single_file.stability import diffusers_module
from engine_build.checkpoint.weights import StoredTensor
from runtime.errors import SourceError

_VAE = {
    "norm_out.": "conv_norm_out.",
    "mid.block_1.": "mid_block.resnets.0.",
    "mid.block_2.": "mid_block.resnets.1.",
    "mid.attn_1.norm.": "mid_block.attentions.0.group_norm.",
    "mid.attn_1.q.": "mid_block.attentions.0.to_q.",
    "mid.attn_1.k.": "mid_block.attentions.0.to_k.",
    "mid.attn_1.v.": "mid_block.attentions.0.to_v.",
    "mid.attn_1.proj_out.": "mid_block.attentions.0.to_out.0.",
}
_VAE_LEVEL = re.compile(r"(down|up)\.(\d+)\.(?:block\.(\d+)|(?:down|up)sample)\.(.+)")

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


def vae_name(name: str, levels: int) -> str:
    """A VAE parameter's name in diffusers. SGM counts the decoder's levels from the finest."""
    half, dot, inner = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    match = _VAE_LEVEL.fullmatch(inner)
    if match is None:
        renamed = _replace_beginning(inner, _VAE)
    else:
        side, index, layer, rest = match.groups()
        level = int(index) if side == "down" else levels - 1 - int(index)
        part = f"{side}samplers.0" if layer is None else f"resnets.{layer}"
        renamed = f"{side}_blocks.{level}.{part}.{rest}"
    return half + dot + renamed.replace(".nin_shortcut.", ".conv_shortcut.")


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
            layer = _replace_beginning(block[2], _OPEN_CLIP_LAYER)
            named[f"text_model.encoder.layers.{block[1]}.{layer}"] = tensor
        elif name == "text_projection":
            named["text_projection.weight"] = tensor.transposed()
        else:
            named[_replace_beginning(name, _OPEN_CLIP)] = tensor
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


def _replace_beginning(name: str, beginnings: Mapping[str, str]) -> str:
    for old, new in beginnings.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _unet(tensors: Tensors, config: Mapping[str, Any]) -> dict[str, StoredTensor]:
    layers = int(config.get("layers_per_block", 2))
    named: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        module, dot, kind = name.rpartition(".")
        named[diffusers_module(module, layers) + dot + kind] = tensor
    return named


def _vae(tensors: Tensors, config: Mapping[str, Any]) -> dict[str, StoredTensor]:
    levels = len(config.get("block_out_channels", ()))
    return {vae_name(name, levels): tensor for name, tensor in tensors.items()}


SDXL = SingleFileFamily(
    title="SDXL",
    pipeline_class="StableDiffusionXLPipeline",
    usual_base="stabilityai/stable-diffusion-xl-base-1.0",
    networks={
        "unet": NetworkInFile(("model.diffusion_model.",), _unet),
        "vae": NetworkInFile(("first_stage_model.",), _vae),
        "text_encoder": NetworkInFile(
            ("conditioner.embedders.0.transformer.",), lambda tensors, _: dict(tensors)
        ),
        "text_encoder_2": NetworkInFile(
            ("conditioner.embedders.1.model.",), lambda tensors, _: open_clip(tensors)
        ),
    },
    scheduler=scheduler,
)

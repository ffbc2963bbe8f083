"""Writes the demo's diffusers folder from its package, which has the weights under their own names.

The package lacks the weights that no drawing needs (`UNUSED`): the folder's are random.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from examples.demo_model.models import Denoiser, build_vae
from runtime.package.manifest import ModelPackage

_PREFIX = "text_model."
"""Of a CLIP encoder's names; transformers leaves the prefix out of some classes."""
UNUSED: Mapping[str, tuple[str, ...]] = {
    "vae_decoder": ("encoder.", "quant_conv."),
    "text_encoder": ("final_layer_norm.",),
}
"""Beginnings of the names of weights that a role's graph does not read."""


def write_demo_source(package: ModelPackage, folder: Path) -> None:
    """Write the folder, in fp16 as the package's weights are. Raises ValueError for a package of
    another model.
    """
    torch.manual_seed(0)
    denoiser, vae = Denoiser().eval(), build_vae().eval()
    networks = {
        "denoiser": denoiser.unet,
        "text_encoder": denoiser.text_encoder,
        "text_encoder_2": denoiser.text_encoder_2,
        "vae_decoder": vae,
    }
    for role, network in networks.items():
        _load(network, load_file(package.file(f"{role}.safetensors")), role)
    vae.register_to_config(scaling_factor=_scaling_factor(package))
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=denoiser.text_encoder,
        text_encoder_2=denoiser.text_encoder_2,
        tokenizer=_tokenizer(package, "tokenizer"),
        tokenizer_2=_tokenizer(package, "tokenizer_2"),
        unet=denoiser.unet,
        scheduler=EulerDiscreteScheduler.from_config(dict(package.manifest.scheduler)),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)


def _load(network: torch.nn.Module, weights: Mapping[str, torch.Tensor], role: str) -> None:
    own = set(network.state_dict())
    named = {
        name if name in own else name.removeprefix(_PREFIX): value
        for name, value in weights.items()
    }
    missing, unexpected = network.load_state_dict(named, strict=False)
    unused = UNUSED.get(role, ())
    lost = [name for name in missing if not name.removeprefix(_PREFIX).startswith(unused)]
    if lost or unexpected:
        raise ValueError(
            f"{role}: {len(lost)} weights are missing and {len(unexpected)} unknown to the "
            f"networks of examples/demo_model: {[*lost, *unexpected][:3]}"
        )


def _scaling_factor(package: ModelPackage) -> float:
    """The number that the decoder's graph divides latents by. Raises ValueError without one."""
    graph = onnx.load(package.file("vae_decoder.onnx"), load_external_data=False).graph
    numbers = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Div" and node.input[0] == "latents":
            return float(onnx.numpy_helper.to_array(numbers[node.input[1]]))
    raise ValueError(f"{package.path}: the decoder's graph divides its latents by nothing")


def _tokenizer(package: ModelPackage, name: str) -> CLIPTokenizer:
    record = package.manifest.tokenizers[name]
    content: dict[str, Any] = json.loads(package.file(record.file).read_text())
    special = {token["id"]: token["content"] for token in content["added_tokens"]}
    return CLIPTokenizer(
        vocab=content["model"]["vocab"],
        merges=[tuple(pair) for pair in content["model"]["merges"]],
        bos_token=special[record.begin],
        eos_token=special[record.end],
        unk_token=special[record.end],
        pad_token=special[record.pad],
        model_max_length=record.max_length,
    )

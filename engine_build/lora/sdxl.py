"""The names that LoRA files have for the layers of SDXL: diffusers' and Stability's (SGM)."""

import re
from collections.abc import Iterator

from runtime.package.manifest import Manifest

FAMILY = "sdxl"

# By a text encoder's role: its prefix in kohya's files, and in diffusers'.
_ENCODERS = {
    "text_encoder": ("lora_te1", "text_encoder"),
    "text_encoder_2": ("lora_te2", "text_encoder_2"),
}

# Names that diffusers once had for the projections of CLIP's attention.
_OLD_PROJECTIONS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}

_SGM_WHOLE = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}

_SGM_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}

_BLOCK = re.compile(
    r"(?P<side>down|up)_blocks\.(?P<block>\d+)\.(?P<what>\w+)\.(?P<index>\d+)\.(?P<rest>.+)"
)
_MIDDLE = re.compile(r"mid_block\.(?P<what>\w+)\.(?P<index>\d+)\.(?P<rest>.+)")


def spellings(manifest: Manifest) -> Iterator[tuple[str, tuple[str, str]]]:
    """Every name that a file may have for a layer, with the role and the parameter that it is."""
    denoiser = _modules(manifest, "denoiser")
    for module in denoiser:
        place = "denoiser", f"{module}.weight"
        for name in (module, module.removesuffix(".0")):
            yield name, place
            yield f"unet.{name}", place
            yield f"lora_unet.{name}", place
        sgm = _sgm(module, denoiser)
        if sgm is not None:
            yield f"lora_unet.{sgm}", place
            yield f"diffusion_model.{sgm}", place
    for role, (kohya, diffusers) in _ENCODERS.items():
        for module in _modules(manifest, role):
            place = role, f"{module}.weight"
            yield f"{kohya}.{module}", place
            for name in _encoder_names(module):
                yield f"{diffusers}.{name}", place


def _modules(manifest: Manifest, role: str) -> frozenset[str]:
    """The layers that a low-rank change can lie on: those with a matrix or a kernel."""
    return frozenset(
        name.removesuffix(".weight")
        for name, parameter in manifest.roles[role].parameters.items()
        if name.endswith(".weight") and len(parameter.shape) >= 2
    )


def _encoder_names(module: str) -> Iterator[str]:
    path, _, layer = module.rpartition(".")
    for name in (module, f"{path}.{_OLD_PROJECTIONS.get(layer, layer)}"):
        yield name
        # transformers 5 saves without this prefix.
        yield name.removeprefix("text_model.")


def _sgm(module: str, modules: frozenset[str]) -> str | None:
    """Stability's name of a layer of the UNet; SGM numbers blocks through all levels."""
    if module in _SGM_WHOLE:
        return _SGM_WHOLE[module]
    middle = _MIDDLE.fullmatch(module)
    if middle:
        position = 1 if middle["what"] == "attentions" else 2 * int(middle["index"])
        return f"middle_block.{position}.{_SGM_RESNET.get(middle['rest'], middle['rest'])}"
    match = _BLOCK.fullmatch(module)
    if match is None:
        return None
    layers = len({name.split(".")[3] for name in modules if _is_first_resnet(name)})
    block, index, rest = int(match["block"]), int(match["index"]), match["rest"]
    if match["side"] == "down":
        number = 1 + block * (layers + 1) + (layers if match["what"] == "downsamplers" else index)
        place = "1" if match["what"] == "attentions" else "0"
        rest = "op" if match["what"] == "downsamplers" else _SGM_RESNET.get(rest, rest)
        return f"input_blocks.{number}.{place}.{rest}"
    number = block * (layers + 1) + (layers if match["what"] == "upsamplers" else index)
    attends = any(name.startswith(f"up_blocks.{block}.attentions.") for name in modules)
    part = {"resnets": 0, "attentions": 1, "upsamplers": 2 if attends else 1}[match["what"]]
    return f"output_blocks.{number}.{part}.{_SGM_RESNET.get(rest, rest)}"


def _is_first_resnet(name: str) -> bool:
    return name.startswith("down_blocks.0.resnets.")

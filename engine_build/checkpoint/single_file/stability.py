"""Stability's names of a UNet's layers (generative-models, "SGM"), and diffusers' beside them.

SGM numbers the input blocks through all levels: a level's layers, then its downsampler. A level of
output blocks has one layer more, and its upsampler is inside its last block. Checkpoints and LoRA
files of every trainer that keeps Stability's names have these (diffusers:
loaders/single_file_utils.py, ComfyUI: comfy/utils.py, `unet_to_diffusers`).
"""

import re
from collections.abc import Collection

_WHOLE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_MIDDLE = ("resnets.0", "attentions.0", "resnets.1")
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_WHOLE_BACK = {new: old for old, new in _WHOLE.items()}
_RESNET_BACK = {new: old for old, new in _RESNET.items()}

_STABILITY_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)")
_STABILITY_MIDDLE = re.compile(r"middle_block\.([012])\.(.+)")
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)")
_MIDDLE_BLOCK = re.compile(r"mid_block\.(\w+\.\d+)\.(.+)")
_ATTENDING = re.compile(r"up_blocks\.(\d+)\.attentions\..+")
_FIRST_RESNET = re.compile(r"down_blocks\.0\.resnets\.(\d+)\..+")


def diffusers_module(module: str, layers_per_block: int) -> str:
    """A layer's name in diffusers; the same name where the layer is not Stability's."""
    middle, block = _STABILITY_MIDDLE.fullmatch(module), _STABILITY_BLOCK.fullmatch(module)
    if module in _WHOLE:
        return _WHOLE[module]
    if middle:
        part = _MIDDLE[int(middle[1])]
        return f"mid_block.{part}.{_in_part(part, middle[2])}"
    if block is None:
        return module
    side, number, place, rest = block.groups()
    level, layer = divmod(int(number) - (1 if side == "input" else 0), layers_per_block + 1)
    where = f"{'down' if side == 'input' else 'up'}_blocks.{level}"
    if rest == "op":
        return f"{where}.downsamplers.0.conv"
    if rest == "conv":
        return f"{where}.upsamplers.0.conv"
    part = f"{'resnets' if place == '0' else 'attentions'}.{layer}"
    return f"{where}.{part}.{_in_part(part, rest)}"


def stability_modules(modules: Collection[str]) -> dict[str, str]:
    """By Stability's names, the layers of a UNet that has all of these layers of diffusers."""
    first_level = (_FIRST_RESNET.fullmatch(module) for module in modules)
    layers = len({found[1] for found in first_level if found})
    attending = {found[1] for found in map(_ATTENDING.fullmatch, modules) if found}
    return {_stability_module(module, layers, attending): module for module in modules}


def _stability_module(module: str, layers: int, attending: Collection[str]) -> str:
    middle, block = _MIDDLE_BLOCK.fullmatch(module), _BLOCK.fullmatch(module)
    if middle and middle[1] in _MIDDLE:
        rest = _in_stability_part(middle[1], middle[2])
        return f"middle_block.{_MIDDLE.index(middle[1])}.{rest}"
    if block is None:
        return _WHOLE_BACK.get(module, module)
    side, level, part, index, rest = block.groups()
    first = int(level) * (layers + 1) + (1 if side == "down" else 0)
    if part == "downsamplers":
        return f"input_blocks.{first + layers}.0.op"
    if part == "upsamplers":
        return f"output_blocks.{first + layers}.{2 if level in attending else 1}.conv"
    where = f"{'input' if side == 'down' else 'output'}_blocks.{first + int(index)}"
    return f"{where}.{0 if part == 'resnets' else 1}.{_in_stability_part(part, rest)}"


def _in_part(part: str, rest: str) -> str:
    return _RESNET.get(rest, rest) if part.startswith("resnets") else rest


def _in_stability_part(part: str, rest: str) -> str:
    return _RESNET_BACK.get(rest, rest) if part.startswith("resnets") else rest

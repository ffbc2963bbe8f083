"""Writes Z-Image's transformer in its original naming: diffusers' own way there, backwards."""

import re

import torch

State = dict[str, torch.Tensor]

_NAMES = {
    "all_x_embedder.2-1.": "x_embedder.",
    "all_final_layer.2-1.": "final_layer.",
    ".attention.norm_q.": ".attention.q_norm.",
    ".attention.norm_k.": ".attention.k_norm.",
    ".attention.to_out.0.": ".attention.out.",
}
_PART = re.compile(r"(.+\.attention)\.to_[qkv]\.(\w+)")


def state(network: State) -> State:
    """A transformer of diffusers, of any width, as the original has it."""
    written: State = {}
    for name, value in network.items():
        part = _PART.fullmatch(name)
        if part is None:
            written[_original(name)] = value
        elif ".to_q." in name:
            parts = [network[name.replace(".to_q.", f".to_{each}.")] for each in "qkv"]
            written[f"{part[1]}.qkv.{part[2]}"] = torch.cat(parts)
    return written


def _original(name: str) -> str:
    for new, old in _NAMES.items():
        name = name.replace(new, old)
    return name

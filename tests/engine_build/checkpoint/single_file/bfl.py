"""Writes transformers in Black Forest Labs' naming: diffusers' own way there, backwards."""

import re

import torch

State = dict[str, torch.Tensor]

# For each layer of the original: the layers of diffusers whose rows it holds, in their order.
_OUTSIDE = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
    "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    "final_layer.linear": ("proj_out",),
}
_DOUBLE = {
    "img_mod.lin": ("norm1.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mod.lin": ("norm1_context.linear",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
_SINGLE = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
    "linear2": ("proj_out",),
}
_BLOCKS = {
    "transformer_blocks": ("double_blocks", _DOUBLE),
    "single_transformer_blocks": ("single_blocks", _SINGLE),
}
_IN_BLOCK = re.compile(r"(\w*transformer_blocks)\.(\d+)\.(.+)")


def state(network: State) -> State:
    """A transformer of diffusers, of any width, as the original has it."""
    rows: dict[str, dict[int, torch.Tensor]] = {}
    for name, value in network.items():
        module, _, kind = name.rpartition(".")
        layer, position = _place(module)
        scale = layer.endswith("_norm") or ".norms." in layer
        # The original's last norm has its shift before its scale.
        as_stored = value.roll(len(value) // 2, 0) if module == "norm_out.linear" else value
        rows.setdefault(f"{layer}.{'scale' if scale else kind}", {})[position] = as_stored
    return {name: torch.cat([parts[i] for i in sorted(parts)]) for name, parts in rows.items()}


def _place(module: str) -> tuple[str, int]:
    """The original layer that holds a layer of diffusers, and where among its parts that lies."""
    if module.startswith("distilled_guidance_layer."):
        return module.replace("linear_1", "in_layer").replace("linear_2", "out_layer"), 0
    block = _IN_BLOCK.fullmatch(module)
    if block is None:
        return _found(module, _OUTSIDE)
    kind, layers = _BLOCKS[block[1]]
    layer, position = _found(block[3], layers)
    return f"{kind}.{block[2]}.{layer}", position


def _found(module: str, layers: dict[str, tuple[str, ...]]) -> tuple[str, int]:
    for layer, parts in layers.items():
        if module in parts:
            return layer, parts.index(module)
    raise KeyError(module)

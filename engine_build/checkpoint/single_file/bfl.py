"""The blocks of Flux in the naming of Black Forest Labs, which Chroma's checkpoints have kept."""

import re
from collections.abc import Iterator, Mapping

from engine_build.checkpoint.single_file.family import Tensors
from engine_build.checkpoint.weights import StoredTensor
from runtime.errors import SourceError

DIFFUSERS_MARK = "single_transformer_blocks."
"""The beginning of names that only diffusers gives."""
MARKS = ("double_blocks.", DIFFUSERS_MARK)
"""Beginnings of the names of a transformer's blocks."""

_DOUBLE = re.compile(r"double_blocks\.(\d+)\.(img|txt)_(.+)")
_SINGLE = re.compile(r"single_blocks\.(\d+)\.(.+)")

_IMAGE = {
    "mod.lin": "norm1.linear",
    "attn.norm.query_norm": "attn.norm_q",
    "attn.norm.key_norm": "attn.norm_k",
    "attn.proj": "attn.to_out.0",
    "mlp.0": "ff.net.0.proj",
    "mlp.2": "ff.net.2",
}
_TEXT = {
    "mod.lin": "norm1_context.linear",
    "attn.norm.query_norm": "attn.norm_added_q",
    "attn.norm.key_norm": "attn.norm_added_k",
    "attn.proj": "attn.to_add_out",
    "mlp.0": "ff_context.net.0.proj",
    "mlp.2": "ff_context.net.2",
}
_FUSED = {
    "img": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_IN_SINGLE = {
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
    "linear2": "proj_out",
}
_ENDS = {"txt_in": "context_embedder", "img_in": "x_embedder", "final_layer.linear": "proj_out"}


def transformer(tensors: Tensors, others: Mapping[str, str]) -> dict[str, StoredTensor]:
    """A transformer's tensors under the names of diffusers.

    `others` renames the modules outside of the blocks that only this family has. Query, key and
    value of a block lie in one matrix; in a single-stream block, that matrix holds the first layer
    of the MLP too. A transformer under diffusers' names has nothing to rename.
    """
    if any(name.startswith(DIFFUSERS_MARK) for name in tensors):
        return dict(tensors)
    width = hidden_size(tensors)
    named: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        double, single = _DOUBLE.fullmatch(name), _SINGLE.fullmatch(name)
        if double:
            where = f"transformer_blocks.{double[1]}"
            found = _in_double(double[2], double[3], tensor)
        elif single:
            where = f"single_transformer_blocks.{single[1]}"
            found = _in_single(single[2], tensor, width)
        else:
            named[_rename(name, {**_ENDS, **others})] = tensor
            continue
        named.update({f"{where}.{inner}": part for inner, part in found})
    return named


def hidden_size(tensors: Tensors) -> int:
    """The width of the network. Raises SourceError where the file does not show it."""
    embedder = tensors.get("img_in.weight")
    if embedder is None:
        path = next(iter(tensors.values())).path
        raise SourceError(f"{path}: no img_in.weight in it, expected a whole transformer")
    return embedder.shape[0]


def _in_double(side: str, name: str, tensor: StoredTensor) -> Iterator[tuple[str, StoredTensor]]:
    if name.startswith("attn.qkv."):
        third = tensor.shape[0] // 3
        for index, module in enumerate(_FUSED[side]):
            part = tensor.rows(index * third, (index + 1) * third)
            yield f"{module}.{name.removeprefix('attn.qkv.')}", part
    else:
        yield _rename(name, _IMAGE if side == "img" else _TEXT), tensor


def _in_single(name: str, tensor: StoredTensor, width: int) -> Iterator[tuple[str, StoredTensor]]:
    if name.startswith("linear1."):
        kind = name.removeprefix("linear1.")
        for index, module in enumerate(_FUSED["img"]):
            yield f"{module}.{kind}", tensor.rows(index * width, (index + 1) * width)
        yield f"proj_mlp.{kind}", tensor.rows(3 * width, tensor.shape[0])
    else:
        yield _rename(name, _IN_SINGLE), tensor


def _rename(name: str, table: Mapping[str, str]) -> str:
    """A name whose module is renamed by the table. The factors of norms, once `scale`, are `weight`
    in the files of ComfyUI (supported_models.py, `Flux.process_unet_state_dict`) and diffusers."""
    module, _, kind = name.rpartition(".")
    kind = "weight" if kind == "scale" else kind
    return f"{table.get(module, module)}.{kind}" if module else name

"""Guesses what kind of file was given for a LoRA of the model at hand, for the error message."""

import re
from collections.abc import Iterable, Mapping

# Names that only one kind of file has, the more telling first.
_SIGNS = (
    (r"(^|\.)(clip_[gl]|emb_params|string_to_param)(\.|$)", "a textual inversion embedding"),
    (r"control_model|controlnet|input_hint_block", "a ControlNet"),
    (r"double_blocks|single_blocks|single_transformer_blocks", "a LoRA for Flux or Chroma"),
    (r"joint_blocks|context_embedder", "a LoRA for Stable Diffusion 3"),
    (r"(^|[._])layers[._]\d+[._](attention|feed_forward)|cap_embedder", "a LoRA for Z-Image"),
    (r"blocks[._]\d+[._](cross_attn|self_attn|ffn)", "a LoRA for a video model"),
    (
        r"^lora_te_text_model|^lora_unet_(down|up|mid)_blocks?_",
        "a LoRA for Stable Diffusion 1 or 2",
    ),
    (r"lora_te[12]_|lora_unet_(input|output|middle)_block", "a LoRA for SDXL"),
)
_LORA = re.compile(r"lora|hada_|lokr_")


def guess(names: Iterable[str], metadata: Mapping[str, str]) -> str:
    """A guess at the kind of a file, from its tensors' names and its trainer's metadata."""
    names = tuple(names)
    base = metadata.get("ss_base_model_version") or metadata.get("modelspec.architecture")
    if base:
        return f"it says that it was made for {base}"
    for pattern, kind in _SIGNS:
        if any(re.search(pattern, name) for name in names):
            return f"it seems to be {kind}"
    if not any(_LORA.search(name) for name in names):
        return "nothing in it is named like a LoRA's factors: it seems to be a checkpoint"
    return f"its names are of a kind that is not known, such as {names[0]}"

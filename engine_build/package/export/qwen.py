"""Qwen3 as a text encoder: the hidden states of its last layer but one, and its chat template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, Qwen3Config, Qwen3Model

from engine_build.checkpoint.sources import Component
from engine_build.package.export.networks import load_encoder, made_of
from engine_build.package.export.role import (
    TEXT_BATCH,
    Axis,
    GraphInput,
    Reduced,
    RoleExport,
    Sizes,
)
from runtime.errors import SourceError, in_one_line, of_a_library

# Texts that a template might trim, escape, expand, or take for something else than what a user
# wrote.
_PROBES = (
    "",
    " \n spaces around \n ",
    '<b>&amp;"quotes"</b> {{ 1 + 1 }} {% raw %}',
    "<think>a</think> b",
    "<tool_response>a</tool_response>",
    "/no_think",
)
_PLACEHOLDER = "PLACEHOLDER"

# A small encoder in which several heads share their keys, too.
_NARROW: Mapping[str, Any] = {
    "vocab_size": 512,
    "pad_token_id": None,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "layer_types": ["full_attention"] * 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}

# The graph reads the input of the last layer, so that one layer alone would not be read.
_TWO_LAYERS: Mapping[str, Any] = {"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}


class QwenTextEncoder(nn.Module):
    """Qwen3 without its head."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Token ids `[B, L]` int64, of texts of one length, to the hidden states `[B, L, D]` that
        the last layer is given."""
        answer = self.network(input_ids, output_hidden_states=True, use_cache=False)
        states: torch.Tensor = answer.hidden_states[-2]
        return states


def qwen_text_encoder(
    component: Component, max_length: int, extents: tuple[int, ...]
) -> RoleExport:
    """Export the role `text_encoder`, for texts of at most `max_length` tokens.

    Texts may be filled up to one of `extents`: attention is causal, and no token sees the filling.
    """
    vocabulary: int = component.setting("vocab_size")
    tokens = Axis("tokens", 2, max_length, usual=128, extents=extents)

    def input_ids(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        shape = (sizes[TEXT_BATCH.name], sizes[tokens.name])
        return torch.randint(vocabulary, shape, generator=generator)

    def skeleton() -> nn.Module:
        return made_of(component, lambda config: Qwen3Model(Qwen3Config.from_dict(config)))

    def names(name: str) -> tuple[str, ...]:
        # Published as part of a causal language model; transformers 5 saves without this prefix.
        return f"model.{name}", name

    return RoleExport(
        role="text_encoder",
        component=component,
        skeleton=skeleton,
        load=lambda: load_encoder(Qwen3Model, component, skeleton, names),
        wrap=QwenTextEncoder,
        inputs=(GraphInput("input_ids", {0: TEXT_BATCH, 1: tokens}, input_ids),),
        outputs=("hidden_states",),
        # Its activations overflow fp16.
        precision="bf16",
        traced_at={TEXT_BATCH.name: 2, tokens.name: 12},
        checked_at=(
            {TEXT_BATCH.name: 1, tokens.name: 70},
            {TEXT_BATCH.name: 3, tokens.name: 9},
        ),
        reduced=Reduced(
            _NARROW,
            lambda small: qwen_text_encoder(small, max_length, extents),
            blocks=(_TWO_LAYERS,),
        ),
        parameter_names=names,
    )


def chat_frame(path: Path) -> tuple[str, str]:
    """The words that the tokenizer's chat template puts before and after a user's text.

    Raises SourceError for a tokenizer without a template, for a template that does anything to the
    text but surround it, since the runtime knows no templates, and for a tokenizer that adds tokens
    of its own to the text.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
        rendered = {text: _render(tokenizer, text) for text in (_PLACEHOLDER, *_PROBES)}
    except BaseException as error:
        if not of_a_library(error):  # transformers, tokenizers, json or jinja: no base but this
            raise
        said = in_one_line(error)
        raise SourceError(f"{path}: the chat template cannot be rendered: {said:.200}") from error
    added = tokenizer.num_special_tokens_to_add()
    if added:
        raise SourceError(
            f"{path}: the tokenizer adds {added} tokens of its own to every text, expected none"
        )
    before, found, after = rendered.pop(_PLACEHOLDER).partition(_PLACEHOLDER)
    for text, whole in rendered.items():
        if not found or whole != f"{before}{text}{after}":
            raise SourceError(
                f"{path}: the chat template makes {whole!r} of the text {text!r}; expected one "
                "that puts the same words around every text"
            )
    return before, after


def _render(tokenizer: Any, text: str) -> str:
    """The text in the chat template, with the settings of diffusers' pipeline of Z-Image."""
    rendered: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=True,
    )
    return rendered

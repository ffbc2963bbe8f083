"""T5's encoder, made traceable."""

from dataclasses import replace

import torch
from torch import nn
from transformers import T5Config, T5EncoderModel

from engine_build.checkpoint.sources import Component
from engine_build.package.export.networks import load_encoder, made_of
from engine_build.package.export.role import Axis, GraphInput, Reduced, RoleExport, Sizes
from runtime.package.manifest import BATCH

_TEXTS = Axis(BATCH, 1, 16)

# One tensor under two names; a checkpoint may hold it under either.
_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight")


class T5TextEncoder(nn.Module):
    """T5's encoder, as the pipelines of diffusers call it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Token ids `[B, L]` int64 to hidden states `[B, L, C]`, after the final norm.

        A mask `[B, L]` int64 is 1 where a token may be seen; without a mask every token may be,
        padding too.
        """
        hidden_states: torch.Tensor = self.network(input_ids, attention_mask)[0]
        return hidden_states


def with_t5_defaults(component: Component) -> Component:
    """A T5 encoder with the settings that its config.json leaves to transformers."""
    return replace(component, config=T5Config.from_dict(dict(component.config)).to_dict())


def t5_text_encoder(role: str, component: Component, length: int, *, masked: bool) -> RoleExport:
    """Export T5's encoder for inputs of `length` tokens; `masked` gives it an attention mask."""
    vocabulary: int = component.setting("vocab_size")

    def input_ids(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(vocabulary, (sizes[_TEXTS.name], length), generator=generator)

    def attention_mask(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        seen = torch.randint(1, length + 1, (sizes[_TEXTS.name], 1), generator=generator)
        return (torch.arange(length) < seen).long()

    def skeleton() -> nn.Module:
        return made_of(component, lambda config: T5EncoderModel(T5Config.from_dict(config)))

    def names(name: str) -> tuple[str, ...]:
        return _EMBEDDINGS if name in _EMBEDDINGS else (name,)

    mask = (GraphInput("attention_mask", {0: _TEXTS}, attention_mask),) if masked else ()
    return RoleExport(
        role=role,
        component=component,
        skeleton=skeleton,
        load=lambda: load_encoder(T5EncoderModel, component, skeleton, names),
        wrap=T5TextEncoder,
        inputs=(GraphInput("input_ids", {0: _TEXTS}, input_ids), *mask),
        outputs=("hidden_states",),
        # Its activations overflow fp16.
        precision="bf16",
        traced_at={_TEXTS.name: 2},
        checked_at=({_TEXTS.name: 1}, {_TEXTS.name: 3}),
        parameter_names=names,
        reduced=Reduced(
            {"num_layers": 2, "d_model": 256, "num_heads": 4, "d_ff": 512},
            lambda smaller: t5_text_encoder(role, smaller, length, masked=masked),
            blocks=({"num_layers": 1},),
        ),
    )

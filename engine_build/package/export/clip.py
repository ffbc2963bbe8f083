"""CLIP's text encoders, made traceable."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from engine_build.checkpoint.sources import Component
from engine_build.package.export.networks import load_encoder, made_of
from engine_build.package.export.role import TEXT_BATCH, GraphInput, Reduced, RoleExport, Sizes


class ClipTextEncoder(nn.Module):
    """A CLIP text encoder that answers with the hidden states of any one of its layers."""

    def __init__(self, network: nn.Module, *, projected: bool) -> None:
        super().__init__()
        self.network: Any = network
        self.projected = projected

    def forward(
        self, input_ids: torch.Tensor, layer: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | torch.Tensor:
        """Encode token ids.

        Args:
            input_ids: `[B, L]` int64.
            layer: `[1]` int64, an index into the stack of the embeddings and every layer's output;
                a negative one counts from the end: -2 is the last layer but one.

        Returns:
            `hidden_states [B, L, C]`, before the final norm, and with a projection `text_embeds
            [B, P]`, taken from the end token after the final norm.
        """
        answer = self.network(input_ids, output_hidden_states=True)
        stack = torch.stack(answer.hidden_states)
        # Counted from the front in the graph itself: not every backend's Gather takes negatives.
        index = torch.where(layer < 0, layer + stack.shape[0], layer)
        chosen = stack.index_select(0, index)[0]
        return (chosen, answer.text_embeds) if self.projected else chosen


class PooledTextEncoder(nn.Module):
    """A CLIP text encoder that answers with its pooled text alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Token ids `[B, L]` int64 to `[B, C]`: the end token's state after the final norm."""
        pooled: torch.Tensor = self.network(input_ids).pooler_output
        return pooled


def with_clip_defaults(component: Component) -> Component:
    """A CLIP text encoder with the settings that its config.json leaves to transformers."""
    complete = CLIPTextConfig.from_dict(dict(component.config)).to_dict()
    return replace(component, config=complete)


def clip_text_encoder(
    role: str, component: Component, length: int, *, projected: bool
) -> RoleExport:
    """Export a CLIP text encoder that reads prompts of `length` tokens."""
    network_class = CLIPTextModelWithProjection if projected else CLIPTextModel
    vocabulary: int = component.setting("vocab_size")
    layers: int = component.setting("num_hidden_layers")

    def input_ids(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(vocabulary, (sizes[TEXT_BATCH.name], length), generator=generator)

    def layer(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001
        return torch.tensor([sizes["layer"]])

    def skeleton() -> nn.Module:
        return made_of(component, lambda config: network_class(CLIPTextConfig.from_dict(config)))

    names = _same_name if projected else _clip_parameter_names

    return RoleExport(
        role=role,
        component=component,
        skeleton=skeleton,
        load=lambda: load_encoder(network_class, component, skeleton, names),
        wrap=lambda network: ClipTextEncoder(network, projected=projected),
        inputs=(
            GraphInput("input_ids", {0: TEXT_BATCH}, input_ids),
            GraphInput("layer", {}, layer),
        ),
        outputs=("hidden_states", "text_embeds") if projected else ("hidden_states",),
        precision="fp16",
        traced_at={TEXT_BATCH.name: 2, "layer": -2},
        checked_at=(
            {TEXT_BATCH.name: 1, "layer": -1},
            {TEXT_BATCH.name: 3, "layer": layers - 2},
        ),
        parameter_names=names,
        reduced=Reduced(
            {"num_hidden_layers": 3},
            lambda smaller: clip_text_encoder(role, smaller, length, projected=projected),
            blocks=({"num_hidden_layers": 1},),
        ),
    )


def pooled_text_encoder(role: str, component: Component, length: int) -> RoleExport:
    """Export a CLIP text encoder without a projection for its pooled text alone."""
    encoder = clip_text_encoder(role, component, length, projected=False)
    return replace(
        encoder,
        wrap=PooledTextEncoder,
        inputs=tuple(item for item in encoder.inputs if item.name == "input_ids"),
        outputs=("pooled_text",),
        # It comes with checkpoints in bf16, whose weights need not fit into fp16.
        precision="bf16",
        reduced=Reduced(
            {"num_hidden_layers": 3},
            lambda smaller: pooled_text_encoder(role, smaller, length),
            blocks=({"num_hidden_layers": 1},),
        ),
    )


def _same_name(name: str) -> tuple[str, ...]:
    return (name,)


def _clip_parameter_names(name: str) -> tuple[str, ...]:
    # Published checkpoints have the prefix; transformers 5 saves without it.
    return f"text_model.{name}", name

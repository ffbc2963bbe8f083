"""Networks that several families share, made traceable: CLIP text encoders and latent decoders."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from engine_build.checkpoint.sources import Component
from engine_build.package.export.latents import LatentScaling
from engine_build.package.export.role import Axis, GraphInput, Reduced, RoleExport, Sizes
from engine_build.package.state import load_state
from runtime.errors import SourceError
from runtime.package.manifest import BATCH, HEIGHT, WIDTH

TEXT_BATCH = Axis(BATCH, 1, 256)


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


class PictureDecoder(nn.Module):
    """A latent decoder that ends in 8-bit pictures, rounded as diffusers rounds them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents `[B, C, h, w]` to pictures `[B, H, W, 3]` uint8."""
        picture: torch.Tensor = self.network.decode(self.unscale(latents), return_dict=False)[0]
        picture = (picture * 0.5 + 0.5).clamp(0, 1)
        return (picture * 255).round().permute(0, 2, 3, 1).to(torch.uint8)

    def unscale(self, latents: torch.Tensor) -> torch.Tensor:
        """From the denoiser's latents to the decoder's; the same for small preview decoders."""
        return latents


class VaeDecoder(PictureDecoder):
    """AutoencoderKL's decoder, on the denoiser's latents."""

    def __init__(self, network: nn.Module, scaling: LatentScaling) -> None:
        super().__init__(network)
        self.scaling = scaling

    def unscale(self, latents: torch.Tensor) -> torch.Tensor:
        """Undo the scaling."""
        return self.scaling.to_autoencoder(latents)


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
        network = network_class(CLIPTextConfig.from_dict(dict(component.config)))
        return _frozen(network)

    names = _same_name if projected else _clip_parameter_names

    def load() -> nn.Module:
        if component.from_single_file:
            return load_state(skeleton, component.checkpoint, names)
        return _frozen(
            network_class.from_pretrained(
                component.path,
                dtype=torch.float32,
                variant=component.variant,
                use_safetensors=True,
                local_files_only=True,
            )
        )

    return RoleExport(
        role=role,
        component=component,
        skeleton=skeleton,
        load=load,
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


def picture_decoder(
    role: str,
    component: Component,
    wrap: Callable[[nn.Module], PictureDecoder],
    channels: int,
    max_size: int,
) -> RoleExport:
    """Export a decoder of latents of at most `max_size` a side."""
    classes = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
    network_class = classes[component.class_name]
    batch = Axis(BATCH, 1, 16)
    height, width = Axis(HEIGHT, 2, max_size), Axis(WIDTH, 2, max_size)

    def latents(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        shape = (sizes[BATCH], channels, sizes[HEIGHT], sizes[WIDTH])
        return torch.randn(shape, generator=generator)

    def load() -> nn.Module:
        return load_network(network_class, component)

    return RoleExport(
        role=role,
        component=component,
        skeleton=lambda: network_skeleton(network_class, component),
        load=load,
        wrap=wrap,
        inputs=(GraphInput("latents", {0: batch, 2: height, 3: width}, latents),),
        outputs=("image",),
        # The VAE of SDXL overflows fp16, and small decoders cost little in fp32.
        precision="fp32",
        traced_at={BATCH: 2, HEIGHT: 8, WIDTH: 12},
        checked_at=(
            {BATCH: 1, HEIGHT: 16, WIDTH: 10},
            {BATCH: 3, HEIGHT: 6, WIDTH: 20},
        ),
        parameter_names=_attention_parameter_names,
    )


def vae_decoder(
    component: Component, scaling: LatentScaling, channels: int, max_size: int
) -> RoleExport:
    """Export an AutoencoderKL's decoder."""
    return picture_decoder(
        "vae_decoder", component, lambda network: VaeDecoder(network, scaling), channels, max_size
    )


def preview_decoder(component: Component, channels: int, max_size: int) -> RoleExport:
    """Export a small decoder of the denoiser's latents, such as TAESDXL."""
    found = component.config.get("latent_channels", 4)
    if component.class_name != "AutoencoderTiny" or found != channels:
        raise SourceError(
            f"{component.path}: class {component.class_name} with {found} latent channels, "
            f"expected AutoencoderTiny with {channels}"
        )
    return picture_decoder("preview_decoder", component, PictureDecoder, channels, max_size)


def network_skeleton(network_class: Any, component: Component) -> nn.Module:
    """A network of diffusers as its configuration says, with whatever weights."""
    try:
        return _frozen(network_class.from_config(dict(component.config)))
    except (TypeError, ValueError, KeyError) as error:
        raise SourceError(
            f"{component.path / 'config.json'}: no {component.class_name} can be made of it "
            f"({error})"
        ) from error


def load_network(network_class: Any, component: Component) -> nn.Module:
    """A network of diffusers with its weights, widened to fp32.

    By its own library where that can load it, so that the reference owes nothing to our reading.
    """
    if component.from_single_file:
        return load_state(lambda: network_skeleton(network_class, component), component.checkpoint)
    return _frozen(
        network_class.from_pretrained(
            component.path,
            torch_dtype=torch.float32,
            variant=component.variant,
            use_safetensors=True,
            local_files_only=True,
        )
    )


def _frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def _same_name(name: str) -> tuple[str, ...]:
    return (name,)


def _clip_parameter_names(name: str) -> tuple[str, ...]:
    # Published checkpoints have the prefix; transformers 5 saves without it.
    return f"text_model.{name}", name


# Attention blocks of the VAE were spelled so before diffusers 0.15.
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def _attention_parameter_names(name: str) -> tuple[str, ...]:
    older = [
        name.replace(f".{new}.", f".{old}.")
        for new, old in _OLD_ATTENTION.items()
        if f".{new}." in name
    ]
    return (name, *older)

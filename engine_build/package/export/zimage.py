"""Z-Image Turbo, from a folder or a single file; its counterpart at run time is
`runtime.plan.families.zimage`."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel

from engine_build.checkpoint.sources import Component, ModelSource
from engine_build.package.export.decoders import vae_decoder
from engine_build.package.export.denoiser import DenoiserSizes, denoiser, evaluation_axis
from engine_build.package.export.flow import (
    check_text_width,
    flow_defaults,
    flow_scheduler,
    packed_limits,
)
from engine_build.package.export.latents import LatentScaling
from engine_build.package.export.qwen import chat_frame, qwen_text_encoder
from engine_build.package.export.role import (
    Axis,
    Choices,
    GraphInput,
    ModelExport,
    Reduced,
    RoleExport,
    Sizes,
    TokenizerExport,
)
from engine_build.package.export.zimage_denoiser import ZImageDenoiser
from runtime.errors import BuildError, SourceError
from runtime.package.manifest import LatentFormat, Limits
from runtime.plan.families.flow import PATCH
from runtime.plan.families.zimage import CAPTION_MULTIPLE

MAX_CAPTION = 512
"""The longest caption in tokens, chat template included; the pipeline cuts off there."""

EXTENTS = tuple(range(128, MAX_CAPTION + 1, 128))
"""The extents of captions on a GPU: four graphs in the place of sixteen. What fills a caption for
that, 96 tokens at most, is 2 % of the tokens of a step at 1024x1024."""


class ZImageExporter:
    """The family `zimage`, as the build stage sees it."""

    def read(self, source: ModelSource, choices: Choices) -> ModelExport:
        """The parts of a package of this source. Raises SourceError, BuildError for a choice."""
        choices.refuse("guidance_baked_in", "negative_prompt")
        transformer = source.network("transformer", ("ZImageTransformer2DModel",))
        vae = source.network("vae", ("AutoencoderKL",))
        text = source.network("text_encoder", ("Qwen3Model", "Qwen3ForCausalLM"))
        _check(transformer, vae, text)
        tokenizer = source.tokenizer("tokenizer")
        latents = LatentFormat(
            channels=transformer.setting("in_channels"),
            scale_factor=2 ** (len(vae.setting("block_out_channels")) - 1),
        )
        scaling = LatentScaling.shifted(vae.config)
        limits = packed_limits(latents, choices, evaluations=1)
        _check_places(transformer, limits)
        return ModelExport(
            family="zimage",
            roles=(
                qwen_text_encoder(text, MAX_CAPTION, EXTENTS),
                _denoiser(transformer, limits, latents),
                vae_decoder(
                    vae, scaling, latents.channels, limits.max_size // latents.scale_factor
                ),
            ),
            tokenizers=(TokenizerExport("tokenizer", tokenizer.path, MAX_CAPTION, begins=False),),
            vae=vae,
            latents=latents,
            scaling=scaling,
            limits=limits,
            defaults=flow_defaults(choices, steps=8, cfg_scale=None),
            scheduler=flow_scheduler(source),
            family_options={"chat_frame": chat_frame(tokenizer.path)},
        )


def _denoiser(transformer: Component, limits: Limits, latents: LatentFormat) -> RoleExport:
    return denoiser(
        transformer,
        ZImageTransformer2DModel,
        ZImageDenoiser,
        limits,
        latents,
        precision="bf16",
        conditioning=_conditioning(transformer, evaluation_axis(limits)),
        traced_at=DenoiserSizes(2, 3, (4 * PATCH, 6 * PATCH), {"caption": 64}),
        checked_at=(
            DenoiserSizes(3, 5, (5 * PATCH, 3 * PATCH), {"caption": 32}),
            # A picture of exactly 32 tokens.
            DenoiserSizes(1, 1, (8 * PATCH, 4 * PATCH), {"caption": 96}),
        ),
        heads=transformer.setting("n_heads"),
        reduced=Reduced(
            _narrow(transformer),
            lambda small: _denoiser(small, limits, latents),
            blocks=({"n_layers": 1, "n_refiner_layers": 0}, {"n_layers": 0, "n_refiner_layers": 1}),
        ),
    )


def _narrow(transformer: Component) -> Mapping[str, Any]:
    """Settings of a transformer with heads of the same size: fewer of them, and fewer layers."""
    heads = 2
    return {
        "dim": heads * sum(transformer.setting("axes_dims")),
        "n_heads": heads,
        "n_kv_heads": heads,
        "n_layers": 2,
        "n_refiner_layers": 1,
    }


def _conditioning(transformer: Component, evaluations: Axis) -> tuple[GraphInput, ...]:
    tokens = Axis(
        "caption", CAPTION_MULTIPLE, MAX_CAPTION, CAPTION_MULTIPLE, usual=128, extents=EXTENTS
    )
    width: int = transformer.setting("cap_feat_dim")

    def caption(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        shape = (sizes[evaluations.name], sizes[tokens.name], width)
        return torch.randn(shape, generator=generator)

    def caption_length(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        shape = (sizes[evaluations.name],)
        return torch.randint(sizes[tokens.name], shape, generator=generator) + 1

    return (
        GraphInput("caption", {0: evaluations, 1: tokens}, caption),
        GraphInput("caption_length", {0: evaluations}, caption_length),
    )


def _check(transformer: Component, vae: Component, text: Component) -> None:
    where = transformer.path / "config.json"
    if transformer.config.get("siglip_feat_dim") is not None:
        raise SourceError(
            f"{where}: reads pictures (siglip_feat_dim), so it is an omni or editing model of "
            "Z-Image, which is not served; expected Z-Image Turbo"
        )
    patches = zip(
        transformer.setting("all_patch_size"), transformer.setting("all_f_patch_size"), strict=False
    )
    if (PATCH, 1) not in patches:
        raise SourceError(f"{where}: no layers for patches of {PATCH}x{PATCH} of one frame")
    if transformer.config.get("qk_norm") is False:
        raise SourceError(f"{where}: qk_norm is False, expected true of Z-Image")
    channels = vae.setting("latent_channels")
    if transformer.setting("in_channels") != channels:
        raise SourceError(
            f"{where}: {transformer.setting('in_channels')} channels in, but the VAE's latents "
            f"have {channels}"
        )
    check_text_width(transformer, "cap_feat_dim", text.setting("hidden_size"), text)


def _check_places(transformer: Component, limits: Limits) -> None:
    """Captions, and pictures of the largest size, must lie within the tables of rotations."""
    frames, *sides = transformer.setting("axes_lens")
    if frames < MAX_CAPTION + 2:
        raise SourceError(
            f"{transformer.path / 'config.json'}: axes_lens[0] is {frames}, expected at least "
            f"{MAX_CAPTION + 2}: the longest caption, the picture behind it, and 0"
        )
    reach = min(sides) * limits.multiple_of
    if limits.max_size > reach:
        raise BuildError(
            f"pictures of {limits.max_size} pixels a side: this transformer knows places for "
            f"{reach} (axes_lens); choose --max-size {reach}"
        )

"""FLUX.1 dev and schnell, from a folder or a single file; their counterpart at run time is
`runtime.plan.families.flux`."""

import torch
from diffusers import FluxTransformer2DModel
from torch import nn

from engine_build.checkpoint.sources import Component, ModelSource
from engine_build.package.export.clip import pooled_text_encoder, with_clip_defaults
from engine_build.package.export.decoders import vae_decoder
from engine_build.package.export.denoiser import DenoiserSizes, denoiser, evaluation_axis
from engine_build.package.export.flow import (
    check_text_width,
    flow_defaults,
    flow_scheduler,
    packed_latents,
    packed_limits,
)
from engine_build.package.export.latents import LatentScaling
from engine_build.package.export.packing import (
    PackedDenoiser,
    Sinusoids,
    image_ids,
    pack,
    text_ids,
    unpack,
)
from engine_build.package.export.role import (
    Choices,
    GraphInput,
    ModelExport,
    Reduced,
    RoleExport,
    Sizes,
    TokenizerExport,
)
from engine_build.package.export.t5 import t5_text_encoder, with_t5_defaults
from runtime.package.manifest import LatentFormat, Limits

# max_sequence_length of FluxPipeline, and what schnell was trained with.
DEV_TOKENS = 512
SCHNELL_TOKENS = 256


class FluxDenoiser(PackedDenoiser):
    """FLUX.1's transformer on latents."""

    def __init__(self, network: nn.Module, positions: int) -> None:
        super().__init__(network, positions)
        embed = self.network.time_text_embed
        embed.time_proj = Sinusoids(embed.time_proj.num_channels)

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        pooled_projections: torch.Tensor,
        guidance: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Latents `[R, C, h, w]`, timesteps `[R]` from 0 to 1000, text `[R, L, D]`, pooled text
        `[R, P]` and, in dev, guidance `[R]` to the velocity `[R, C, h, w]`."""
        answer: torch.Tensor = self.network(
            hidden_states=pack(latents),
            encoder_hidden_states=encoder_hidden_states,
            pooled_projections=pooled_projections,
            timestep=timestep / 1000,
            img_ids=image_ids(latents),
            txt_ids=text_ids(encoder_hidden_states),
            guidance=guidance,
            return_dict=False,
        )[0]
        return unpack(answer, latents.shape[2], latents.shape[3])


class FluxExporter:
    """The family `flux`, as the build stage sees it."""

    def read(self, source: ModelSource, choices: Choices) -> ModelExport:
        """The parts of a package of this source. Raises SourceError, BuildError for a choice."""
        choices.refuse("guidance_baked_in", "negative_prompt")
        transformer = source.network("transformer", ("FluxTransformer2DModel",))
        vae = source.network("vae", ("AutoencoderKL",))
        clip = with_clip_defaults(source.network("text_encoder", ("CLIPTextModel",)))
        t5 = with_t5_defaults(source.network("text_encoder_2", ("T5EncoderModel",)))
        check_text_width(transformer, "pooled_projection_dim", clip.setting("hidden_size"), clip)
        check_text_width(transformer, "joint_attention_dim", t5.setting("d_model"), t5)
        guided = bool(transformer.config.get("guidance_embeds", False))
        tokenizer, tokenizer_2 = source.tokenizer("tokenizer"), source.tokenizer("tokenizer_2")
        clip_length = min(tokenizer.max_length, clip.setting("max_position_embeddings"))
        t5_length = min(tokenizer_2.max_length, DEV_TOKENS if guided else SCHNELL_TOKENS)
        latents = packed_latents(transformer, vae)
        scaling = LatentScaling.shifted(vae.config)
        limits = packed_limits(latents, choices, evaluations=1)
        return ModelExport(
            family="flux",
            roles=(
                pooled_text_encoder("text_encoder", clip, clip_length),
                t5_text_encoder("text_encoder_2", t5, t5_length, masked=False),
                _denoiser(transformer, limits, latents, t5_length),
                vae_decoder(
                    vae, scaling, latents.channels, limits.max_size // latents.scale_factor
                ),
            ),
            tokenizers=(
                TokenizerExport("tokenizer", tokenizer.path, clip_length),
                TokenizerExport("tokenizer_2", tokenizer_2.path, t5_length, begins=False),
            ),
            vae=vae,
            latents=latents,
            scaling=scaling,
            limits=limits,
            defaults=flow_defaults(
                choices, steps=50 if guided else 4, cfg_scale=3.5 if guided else None
            ),
            scheduler=flow_scheduler(source),
            family_options={"guidance_embeds": guided},
        )


def _denoiser(
    transformer: Component, limits: Limits, latents: LatentFormat, tokens: int
) -> RoleExport:
    grid = limits.multiple_of // latents.scale_factor
    return denoiser(
        transformer,
        FluxTransformer2DModel,
        lambda network: FluxDenoiser(network, limits.max_size // limits.multiple_of),
        limits,
        latents,
        precision="bf16",
        conditioning=_conditioning(transformer, limits, tokens),
        traced_at=DenoiserSizes(2, 3, (4 * grid, 6 * grid)),
        checked_at=(
            DenoiserSizes(3, 5, (2 * grid, 3 * grid)),
            DenoiserSizes(1, 1, (6 * grid, 4 * grid)),
        ),
        heads=transformer.setting("num_attention_heads"),
        reduced=Reduced(
            {"num_layers": 2, "num_single_layers": 2, "num_attention_heads": 2},
            lambda smaller: _denoiser(smaller, limits, latents, tokens),
            blocks=(
                {"num_layers": 1, "num_single_layers": 0},
                {"num_layers": 0, "num_single_layers": 1},
            ),
        ),
    )


def _conditioning(transformer: Component, limits: Limits, tokens: int) -> tuple[GraphInput, ...]:
    evaluations = evaluation_axis(limits)
    text_width: int = transformer.setting("joint_attention_dim")
    pooled_width: int = transformer.setting("pooled_projection_dim")

    def hidden_states(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(sizes[evaluations.name], tokens, text_width, generator=generator)

    def pooled(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(sizes[evaluations.name], pooled_width, generator=generator)

    def guidance(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        return 1 + 9 * torch.rand(sizes[evaluations.name], generator=generator)

    told = (GraphInput("guidance", {0: evaluations}, guidance),)
    return (
        GraphInput("encoder_hidden_states", {0: evaluations}, hidden_states),
        GraphInput("pooled_projections", {0: evaluations}, pooled),
        *(told if transformer.config.get("guidance_embeds", False) else ()),
    )

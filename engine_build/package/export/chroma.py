"""Chroma, from a folder or a single file; at run time: `runtime.plan.families.chroma`."""

from typing import Any

import torch
from diffusers import ChromaTransformer2DModel
from torch import nn

from engine_build.checkpoint.sources import Component, ModelSource
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

MAX_TOKENS = 512
"""max_sequence_length of ChromaPipeline."""


class ModulationInputs(nn.Module):
    """The inputs of Chroma's modulations, in the place of the transformer's own module.

    The transformer's module builds a tensor of as many zeros as the batch is long, and a graph
    would keep the length that it was traced with.
    """

    def __init__(self, replaced: Any) -> None:
        super().__init__()
        channels: int = replaced.time_proj.num_channels
        self.sinusoids = Sinusoids(channels)
        self.register_buffer("no_guidance", self.sinusoids(torch.zeros(1)), persistent=False)
        self.register_buffer("modulations", replaced.mod_proj, persistent=False)

    def forward(self, timestep: torch.Tensor) -> torch.Tensor:
        """Timesteps `[B]` to `[B, M, 4 * channels]`, one row for each of the M modulations."""
        modulations = self.get_buffer("modulations")
        batch, count = timestep.shape[0], modulations.shape[0]
        # Sinusoids of every row, though the rows of a sample are equal: a CPU would round the last
        # numbers of a tensor so short otherwise than those of a longer batch.
        rows = timestep[:, None].expand(-1, count).reshape(-1)
        times = self.sinusoids(rows).reshape(batch, count, -1)
        guidance = self.get_buffer("no_guidance").expand(batch, count, -1)
        return torch.cat([times, guidance, modulations.expand(batch, -1, -1)], dim=-1)


class ChromaDenoiser(PackedDenoiser):
    """Chroma's transformer on latents."""

    def __init__(self, network: nn.Module, positions: int) -> None:
        super().__init__(network, positions)
        self.network.time_text_embed = ModulationInputs(self.network.time_text_embed)

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        text_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Latents `[R, C, h, w]`, timesteps `[R]` from 0 to 1000, text `[R, L, D]` and its mask
        `[R, L]` of 0 and 1 to the velocity `[R, C, h, w]`."""
        tokens = pack(latents)
        # The products of these numbers are *added* to attention's logits: padding is seen less
        # than the rest, and is not hidden. So diffusers does it, and so must we.
        mask = torch.cat([text_mask, torch.ones_like(tokens[:, :, 0])], dim=1)
        answer: torch.Tensor = self.network(
            hidden_states=tokens,
            encoder_hidden_states=encoder_hidden_states,
            timestep=timestep / 1000,
            img_ids=image_ids(latents),
            txt_ids=text_ids(encoder_hidden_states),
            attention_mask=mask,
            return_dict=False,
        )[0]
        return unpack(answer, latents.shape[2], latents.shape[3])


class ChromaExporter:
    """The family `chroma`, as the build stage sees it."""

    def read(self, source: ModelSource, choices: Choices) -> ModelExport:
        """The parts of a package of this source. Raises SourceError, BuildError for a choice."""
        if choices.guidance_baked_in:
            choices.refuse("negative_prompt")
        transformer = source.network("transformer", ("ChromaTransformer2DModel",))
        vae = source.network("vae", ("AutoencoderKL",))
        t5 = with_t5_defaults(source.network("text_encoder", ("T5EncoderModel",)))
        check_text_width(transformer, "joint_attention_dim", t5.setting("d_model"), t5)
        tokenizer = source.tokenizer("tokenizer")
        tokens = min(tokenizer.max_length, MAX_TOKENS)
        latents = packed_latents(transformer, vae)
        scaling = LatentScaling.shifted(vae.config)
        guided = not choices.guidance_baked_in
        limits = packed_limits(latents, choices, evaluations=2 if guided else 1)
        return ModelExport(
            family="chroma",
            roles=(
                t5_text_encoder("text_encoder", t5, tokens, masked=True),
                _denoiser(transformer, limits, latents, tokens),
                vae_decoder(
                    vae, scaling, latents.channels, limits.max_size // latents.scale_factor
                ),
            ),
            tokenizers=(TokenizerExport("tokenizer", tokenizer.path, tokens, begins=False),),
            vae=vae,
            latents=latents,
            scaling=scaling,
            limits=limits,
            defaults=flow_defaults(
                choices, steps=20 if guided else 4, cfg_scale=4.0 if guided else None
            ),
            scheduler=flow_scheduler(source),
            family_options={"guidance_baked_in": choices.guidance_baked_in},
        )


def _denoiser(
    transformer: Component, limits: Limits, latents: LatentFormat, tokens: int
) -> RoleExport:
    grid = limits.multiple_of // latents.scale_factor
    return denoiser(
        transformer,
        ChromaTransformer2DModel,
        lambda network: ChromaDenoiser(network, limits.max_size // limits.multiple_of),
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
            {
                "num_layers": 2,
                "num_single_layers": 2,
                "num_attention_heads": 2,
                "approximator_hidden_dim": 256,
            },
            lambda smaller: _denoiser(smaller, limits, latents, tokens),
            blocks=(
                # Each layer of the approximator is as wide as a block of the transformer.
                {"num_layers": 1, "num_single_layers": 0, "approximator_layers": 1},
                {"num_layers": 0, "num_single_layers": 1, "approximator_layers": 1},
            ),
        ),
    )


def _conditioning(transformer: Component, limits: Limits, tokens: int) -> tuple[GraphInput, ...]:
    evaluations = evaluation_axis(limits)
    text_width: int = transformer.setting("joint_attention_dim")

    def hidden_states(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(sizes[evaluations.name], tokens, text_width, generator=generator)

    def text_mask(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        seen = torch.randint(1, tokens + 1, (sizes[evaluations.name], 1), generator=generator)
        return (torch.arange(tokens) < seen).float()

    return (
        GraphInput("encoder_hidden_states", {0: evaluations}, hidden_states),
        GraphInput("text_mask", {0: evaluations}, text_mask),
    )

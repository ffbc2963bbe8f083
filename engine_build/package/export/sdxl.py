"""SDXL and all that descends from it; at run time: `runtime.plan.families.sdxl`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from engine_build.checkpoint.sources import Component, ModelSource
from engine_build.package.export.clip import clip_text_encoder, with_clip_defaults
from engine_build.package.export.decoders import vae_decoder
from engine_build.package.export.denoiser import DenoiserSizes, denoiser, evaluation_axis
from engine_build.package.export.latents import LatentScaling
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
from runtime.errors import PackageError, SourceError
from runtime.package.manifest import Defaults, LatentFormat, Limits
from runtime.plan.sampling.scheduler_config import SchedulerConfig

# diffusers' upsampling branches on a batch of 64 and more; below it one trace serves all.
MAX_BATCH = 16
MAX_EVALUATIONS = 32
TIME_IDS = 6


class SdxlDenoiser(nn.Module):
    """SDXL's UNet, with its conditioning as plain arguments."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        text_embeds: torch.Tensor,
        time_ids: torch.Tensor,
    ) -> torch.Tensor:
        """Latents `[R, C, h, w]`, timesteps `[R]`, text `[R, S, D]`, pooled text `[R, P]`, sizes
        `[R, 6]` to the prediction `[R, C, h, w]`."""
        added = {"text_embeds": text_embeds, "time_ids": time_ids}
        answer: torch.Tensor = self.network(
            latents,
            timestep,
            encoder_hidden_states,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        return answer


class SdxlExporter:
    """The family `sdxl`, as the build stage sees it."""

    def read(self, source: ModelSource, choices: Choices) -> ModelExport:
        """The parts of a package of this source. Raises SourceError, BuildError for a choice."""
        unet = source.network("unet", ("UNet2DConditionModel",))
        vae = source.network("vae", ("AutoencoderKL",))
        text = with_clip_defaults(source.network("text_encoder", ("CLIPTextModel",)))
        text_2 = with_clip_defaults(
            source.network("text_encoder_2", ("CLIPTextModelWithProjection",))
        )
        _check(source, unet, text, text_2)
        tokenizer, tokenizer_2 = source.tokenizer("tokenizer"), source.tokenizer("tokenizer_2")
        length = min(tokenizer.max_length, text.setting("max_position_embeddings"))
        length_2 = min(tokenizer_2.max_length, text_2.setting("max_position_embeddings"))
        scale_factor = 2 ** (len(vae.setting("block_out_channels")) - 1)
        channels: int = unet.setting("in_channels")
        latents = LatentFormat(channels, scale_factor)
        scaling = LatentScaling.normalised(vae.config)
        limits = _limits(unet, latents, choices, (text, text_2))
        return ModelExport(
            family="sdxl",
            roles=(
                clip_text_encoder("text_encoder", text, length, projected=False),
                clip_text_encoder("text_encoder_2", text_2, length_2, projected=True),
                _denoiser(unet, limits, latents, length),
                vae_decoder(vae, scaling, channels, limits.max_size // scale_factor),
            ),
            tokenizers=(
                TokenizerExport("tokenizer", tokenizer.path, length),
                TokenizerExport("tokenizer_2", tokenizer_2.path, length_2),
            ),
            vae=vae,
            latents=latents,
            scaling=scaling,
            limits=limits,
            defaults=_defaults(unet, latents, choices),
            scheduler=_scheduler(source),
            family_options={
                "force_zeros_for_empty_prompt": bool(
                    source.index.get("force_zeros_for_empty_prompt", True)
                ),
            },
        )


def _denoiser(unet: Component, limits: Limits, latents: LatentFormat, length: int) -> RoleExport:
    grid = limits.multiple_of // latents.scale_factor
    evaluations = evaluation_axis(limits)
    return denoiser(
        unet,
        UNet2DConditionModel,
        SdxlDenoiser,
        limits,
        latents,
        precision="fp16",
        conditioning=_conditioning(unet, evaluations, length),
        traced_at=DenoiserSizes(2, 3, (4 * grid, 6 * grid), {"tokens": 77}),
        checked_at=(
            DenoiserSizes(3, 5, (2 * grid, 3 * grid), {"tokens": 154}),
            DenoiserSizes(1, 1, (6 * grid, 4 * grid), {"tokens": 77}),
        ),
        heads=_heads(unet),
        reduced=Reduced(
            _narrow(unet),
            lambda smaller: _denoiser(smaller, limits, latents, length),
            blocks=(_without_attention(unet),),
        ),
    )


def _heads(unet: Component) -> int | None:
    """The heads of the first level with attention, which is that of the most tokens."""
    # Texts, unless the configuration is wrong, which whoever makes the network says better.
    kinds = [str(kind) for kind in unet.setting("down_block_types")]
    # The name notwithstanding, diffusers takes them for numbers of heads.
    heads: int | list[int] = unet.setting("attention_head_dim")
    levels = [heads] * len(kinds) if isinstance(heads, int) else heads
    attending = (
        number for number, kind in zip(levels, kinds, strict=True) if kind.startswith("CrossAttn")
    )
    return next(attending, None)


def _narrow(unet: Component) -> Mapping[str, Any]:
    """Settings of a UNet with the same levels: fewer channels, one transformer layer a block."""
    levels = range(len(unet.setting("block_out_channels")))
    return {
        "block_out_channels": [64 * 2**level for level in levels],
        "attention_head_dim": [2**level for level in levels],
        "transformer_layers_per_block": 1,
    }


def _without_attention(unet: Component) -> Mapping[str, Any]:
    """Settings of a UNet with all of its convolutions and one transformer layer, in the middle."""
    levels = len(unet.setting("block_out_channels"))
    return {
        "down_block_types": ["DownBlock2D"] * levels,
        "up_block_types": ["UpBlock2D"] * levels,
        "transformer_layers_per_block": 1,
    }


def _conditioning(unet: Component, evaluations: Axis, length: int) -> tuple[GraphInput, ...]:
    tokens = Axis("tokens", 2, usual=length)
    text_width: int = unet.setting("cross_attention_dim")
    pooled_width = _pooled_width(unet)

    def hidden_states(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        shape = (sizes[evaluations.name], sizes["tokens"], text_width)
        return torch.randn(shape, generator=generator)

    def text_embeds(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(sizes[evaluations.name], pooled_width, generator=generator)

    def time_ids(sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        return torch.rand(sizes[evaluations.name], TIME_IDS, generator=generator) * 1024

    return (
        GraphInput("encoder_hidden_states", {0: evaluations, 1: tokens}, hidden_states),
        GraphInput("text_embeds", {0: evaluations}, text_embeds),
        GraphInput("time_ids", {0: evaluations}, time_ids),
    )


def _check(source: ModelSource, unet: Component, text: Component, text_2: Component) -> None:
    where = unet.path / "config.json"
    if source.index.get("requires_aesthetics_score"):
        raise SourceError(
            f"{source.path}: asks for an aesthetics score, so it is SDXL's refiner; "
            "expected a base model"
        )
    if unet.config.get("addition_embed_type") != "text_time":
        raise SourceError(
            f"{where}: addition_embed_type is {unet.config.get('addition_embed_type')!r}, expected "
            "'text_time' of SDXL"
        )
    taken, given = unet.setting("in_channels"), unet.setting("out_channels")
    if taken != given:
        raise SourceError(
            f"{where}: {taken} channels in and {given} out, expected as many; "
            "inpainting models are not served"
        )
    if unet.config.get("time_cond_proj_dim") is not None:
        raise SourceError(
            f"{where}: takes its guidance as an embedding (time_cond_proj_dim), which is not served"
        )
    width = text.setting("hidden_size") + text_2.setting("hidden_size")
    if unet.setting("cross_attention_dim") != width:
        raise SourceError(
            f"{where}: cross_attention_dim is {unet.setting('cross_attention_dim')}, but the text "
            f"encoders give {width}"
        )
    if _pooled_width(unet) != text_2.setting("projection_dim"):
        raise SourceError(
            f"{where}: reads pooled text of {_pooled_width(unet)}, but text_encoder_2 gives "
            f"{text_2.setting('projection_dim')}"
        )


def _scheduler(source: ModelSource) -> Mapping[str, Any]:
    """The scheduler's configuration. Raises SourceError where the runtime could not follow it."""
    raw = source.scheduler()
    try:
        SchedulerConfig.from_mapping(raw)
    except PackageError as error:
        raise SourceError(f"{source.path / 'scheduler'}: {error}") from error
    return raw


def _pooled_width(unet: Component) -> int:
    added: int = unet.setting("projection_class_embeddings_input_dim")
    per_id: int = unet.setting("addition_time_embed_dim")
    return added - TIME_IDS * per_id


def _native_size(unet: Component, latents: LatentFormat) -> int:
    # The pipeline's own default where the file has none.
    sample: Any = unet.config.get("sample_size") or 128
    side: int = max(sample) if isinstance(sample, (list, tuple)) else sample
    return side * latents.scale_factor


def _limits(
    unet: Component, latents: LatentFormat, choices: Choices, encoders: Sequence[Component]
) -> Limits:
    native = _native_size(unet, latents)
    multiple = latents.scale_factor * 2 ** (len(unet.setting("block_out_channels")) - 1)
    largest = choices.max_size or (2048 if native >= 1024 else max(1024, 4 * native))
    return Limits(
        min_size=2 * multiple,
        max_size=largest // multiple * multiple,
        multiple_of=multiple,
        max_batch=MAX_BATCH,
        max_evaluations=MAX_EVALUATIONS,
        # hidden_states[-(clip_skip + 2)] must exist; the embeddings are one of the states.
        max_clip_skip=min(encoder.setting("num_hidden_layers") for encoder in encoders) - 1,
    )


def _defaults(unet: Component, latents: LatentFormat, choices: Choices) -> Defaults:
    choices.refuse("guidance_baked_in")
    native = _native_size(unet, latents)
    return Defaults(
        width=choices.width or native,
        height=choices.height or native,
        steps=choices.steps or 20,
        cfg_scale=7.0 if choices.cfg_scale is None else choices.cfg_scale,
        sampler=choices.sampler or "euler_a",
        schedule="default",
        negative_prompt=choices.negative_prompt,
    )

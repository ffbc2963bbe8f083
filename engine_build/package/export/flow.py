"""Reads sources of packed flow models: scheduler, latents, limits and defaults."""

from collections.abc import Mapping
from typing import Any

from engine_build.checkpoint.sources import Component, ModelSource
from engine_build.package.export.role import Choices
from runtime.errors import BuildError, PackageError, SourceError
from runtime.package.manifest import Defaults, LatentFormat, Limits
from runtime.plan.families.flow import PATCH
from runtime.plan.sampling.solvers.flow import FlowConfig

MAX_BATCH = 16

NATIVE_SIZE = 1024
"""The default side of the pipelines in pixels, which no configuration states."""

_SCHEDULER = "FlowMatchEulerDiscreteScheduler"


def flow_scheduler(source: ModelSource) -> Mapping[str, Any]:
    """The scheduler's configuration. Raises SourceError where the runtime could not follow it."""
    raw = source.scheduler()
    where = source.path / "scheduler"
    if raw.get("_class_name") != _SCHEDULER:
        raise SourceError(f"{where}: of class {raw.get('_class_name')}, expected {_SCHEDULER}")
    try:
        config = FlowConfig.from_mapping(raw)
    except PackageError as error:
        raise SourceError(f"{where}: {error}") from error
    if config.base_image_seq_len == config.max_image_seq_len:
        raise SourceError(
            f"{where}: base_image_seq_len and max_image_seq_len are both "
            f"{config.max_image_seq_len}, expected two, between which the shift grows"
        )
    return raw


def packed_latents(transformer: Component, vae: Component) -> LatentFormat:
    """The latents that VAE and transformer agree on. Raises SourceError where they do not."""
    channels: int = vae.setting("latent_channels")
    taken: int = transformer.setting("in_channels")
    given: int = transformer.config.get("out_channels") or taken
    packed = channels * PATCH * PATCH
    if (taken, given) != (packed, packed):
        raise SourceError(
            f"{transformer.path / 'config.json'}: {taken} channels in and {given} out, expected "
            f"{packed} and {packed} for the VAE's {channels}; models that fill in, edit or are "
            "controlled by a picture are not served"
        )
    return LatentFormat(channels, 2 ** (len(vae.setting("block_out_channels")) - 1))


def check_text_width(transformer: Component, key: str, width: int, encoder: Component) -> None:
    """Refuse a transformer that reads other text than an encoder gives. Raises SourceError."""
    if transformer.setting(key) != width:
        raise SourceError(
            f"{transformer.path / 'config.json'}: {key} is {transformer.setting(key)}, but "
            f"{encoder.name} gives {width}"
        )


def packed_limits(latents: LatentFormat, choices: Choices, evaluations: int) -> Limits:
    """Limits with sizes in whole patches, and so many evaluations for each sample."""
    multiple = PATCH * latents.scale_factor
    return Limits(
        min_size=2 * multiple,
        max_size=(choices.max_size or 2 * NATIVE_SIZE) // multiple * multiple,
        multiple_of=multiple,
        max_batch=MAX_BATCH,
        max_evaluations=MAX_BATCH * evaluations,
    )


def flow_defaults(choices: Choices, *, steps: int, cfg_scale: float | None) -> Defaults:
    """The chosen defaults, or the model's own; `cfg_scale` is None for a model without guidance.

    Raises BuildError for a choice that the model could not honour.
    """
    if choices.sampler not in (None, "euler"):
        raise BuildError(f"default sampler {choices.sampler!r}: this model takes 'euler' alone")
    if cfg_scale is None and choices.cfg_scale is not None:
        raise BuildError(
            f"default guidance scale {choices.cfg_scale}: this model takes no guidance scale; "
            "leave it out"
        )
    return Defaults(
        width=choices.width or NATIVE_SIZE,
        height=choices.height or NATIVE_SIZE,
        steps=choices.steps or steps,
        cfg_scale=cfg_scale if choices.cfg_scale is None else choices.cfg_scale,
        sampler="euler",
        schedule="default",
        negative_prompt=choices.negative_prompt,
    )

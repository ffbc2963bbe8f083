"""From a denoiser's latents to its autoencoder's and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch


@dataclass(frozen=True, slots=True)
class LatentScaling:
    """`vae = (denoiser / factor + shift) * std + mean`; `std` and `mean` None stand for 1 and 0."""

    factor: float
    shift: float = 0.0
    std: tuple[float, ...] | None = None
    """For each channel."""
    mean: tuple[float, ...] | None = None

    @classmethod
    def normalised(cls, config: Mapping[str, Any]) -> Self:
        """As SDXL's pipeline reads an AutoencoderKL's configuration: it ignores `shift_factor`."""
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is None or std is None:
            return cls(_factor(config))
        return cls(_factor(config), std=tuple(std), mean=tuple(mean))

    @classmethod
    def shifted(cls, config: Mapping[str, Any]) -> Self:
        """As the pipelines of the flow models read it: scale and shift alone."""
        return cls(_factor(config), shift=config.get("shift_factor") or 0.0)

    def to_autoencoder(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents `[B, C, h, w]` as the autoencoder decodes them."""
        unscaled = latents / self.factor
        if self.shift:
            unscaled = unscaled + self.shift
        if self.std is None or self.mean is None:
            return unscaled
        return unscaled * _per_channel(self.std) + _per_channel(self.mean)

    def to_denoiser(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse: what the autoencoder encoded, as the denoiser knows it."""
        if self.std is not None and self.mean is not None:
            latents = (latents - _per_channel(self.mean)) / _per_channel(self.std)
        return (latents - self.shift) * self.factor


def _factor(config: Mapping[str, Any]) -> float:
    # AutoencoderKL's own default, where the file says nothing.
    factor: float = config.get("scaling_factor", 0.18215)
    return factor


def _per_channel(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)

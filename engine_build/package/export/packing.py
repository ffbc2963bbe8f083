"""Modules that transformers of packed latents share: two by two latents are one token."""

import math
from typing import Any

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import nn

from runtime.plan.families.flow import PATCH

ROTARY_BASE = 10000
"""The base of FluxPosEmbed's angles; no configuration changes the base."""


class RotaryTable(nn.Module):
    """Rotary position embeddings by table, in the place of FluxPosEmbed of diffusers.

    FluxPosEmbed computes angles in float64 inside of the network, which not every backend can; here
    the same angles are computed before the graph is made, and looked up.
    """

    def __init__(self, widths: tuple[int, ...], positions: int) -> None:
        super().__init__()
        self.axes = len(widths)
        for axis, width in enumerate(widths):
            cosines, sines = get_1d_rotary_pos_embed(
                width, positions, theta=ROTARY_BASE, use_real=True, freqs_dtype=torch.float64
            )
            self.register_buffer(f"cosines_{axis}", cosines, persistent=False)
            self.register_buffer(f"sines_{axis}", sines, persistent=False)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions `[N, axes]` int64 to cosines and sines `[N, sum(widths)]`."""
        return self._look_up("cosines", ids), self._look_up("sines", ids)

    def _look_up(self, table: str, ids: torch.Tensor) -> torch.Tensor:
        columns = [self.get_buffer(f"{table}_{axis}")[ids[:, axis]] for axis in range(self.axes)]
        return torch.cat(columns, dim=-1)


class Sinusoids(nn.Module):
    """Sinusoids of timesteps, in the place of Timesteps of diffusers as FLUX.1 configures it.

    Its frequencies are computed before the graph is made: they meet numbers of many thousands, and
    an exponential function that rounds differently would turn them by a noticeable angle.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        exponents = -math.log(10000) * torch.arange(half, dtype=torch.float32) / half
        self.register_buffer("frequencies", torch.exp(exponents), persistent=False)

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Timesteps `[B]` to `[B, channels]`: all cosines, then all sines."""
        angles = timesteps[:, None] * self.get_buffer("frequencies")[None]
        return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


class PackedDenoiser(nn.Module):
    """A transformer of packed latents with its table of positions; families add `forward`."""

    def __init__(self, network: Any, positions: int) -> None:
        """`positions`: how many patches a side a picture may have."""
        super().__init__()
        self.network = network
        network.pos_embed = RotaryTable(tuple(network.config.axes_dims_rope), positions)


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Latents `[B, C, h, w]` to tokens `[B, h / 2 * w / 2, C * 4]`, row by row."""
    batch, channels, height, width = latents.shape
    rows, columns = height // PATCH, width // PATCH
    patches = latents.view(batch, channels, rows, PATCH, columns, PATCH)
    ordered = patches.permute(0, 2, 4, 1, 3, 5)
    return ordered.reshape(batch, rows * columns, channels * PATCH * PATCH)


def unpack(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The inverse: tokens `[B, h / 2 * w / 2, C * 4]` to latents `[B, C, h, w]`."""
    batch, _, depth = tokens.shape
    channels = depth // (PATCH * PATCH)
    patches = tokens.view(batch, height // PATCH, width // PATCH, channels, PATCH, PATCH)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, height, width)


def text_ids(text: torch.Tensor) -> torch.Tensor:
    """Positions `[L, 3]` int64 of text `[B, L, D]`: all of it stands at the origin."""
    return torch.zeros(text.shape[1], 3, dtype=torch.int64, device=text.device)


def image_ids(latents: torch.Tensor) -> torch.Tensor:
    """Positions `[h / 2 * w / 2, 3]` int64 of the tokens of latents `[B, C, h, w]`."""
    rows, columns = latents.shape[2] // PATCH, latents.shape[3] // PATCH
    row = torch.arange(rows, device=latents.device)[:, None].expand(rows, columns)
    column = torch.arange(columns, device=latents.device)[None].expand(rows, columns)
    return torch.stack([torch.zeros_like(row), row, column], dim=-1).reshape(rows * columns, 3)

"""Takes the colour out of latents: a small network, fitted through a fixed decoder.

A package holds no encoder, so that pictures without colour cannot be encoded. What can be had from
it are latents, and the pictures that its decoders make of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from examples.demo_model.checkpoints import learning_rate, set_learning_rate, step_generator

LUMINANCE = (0.299, 0.587, 0.114)
"""The weights of R, G and B: ITU-R BT.601."""
PEAK_LEARNING_RATE = 4e-3
_CROP = 8


class Decolourer(nn.Module):
    """Scaled latents `[B, 4, h, w]` to those of the same picture without colour."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv2d(4, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, 4, 1),
        )

    def forward(self, latents: Tensor) -> Tensor:
        changed: Tensor = latents + self.change(latents)
        return changed


def grey(pictures: Tensor) -> Tensor:
    """RGB `[B, 3, H, W]` to grey of the same luminance, still in three channels."""
    weights = torch.tensor(LUMINANCE, device=pictures.device).view(1, 3, 1, 1)
    return (pictures * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)


def fit(
    decode: Callable[[Tensor], Tensor], latents: Tensor, steps: int, batch: int, seed: int
) -> Decolourer:
    """Fit one on latents `[N, 4, h, w]`; `decode` makes pictures `[B, 3, H, W]` of them."""
    network = Decolourer()
    optimizer = torch.optim.Adam(network.parameters(), lr=PEAK_LEARNING_RATE)
    progress = tqdm(range(steps), desc="decolourer", mininterval=10)
    for step in progress:
        crops = _crops(latents, batch, step_generator(seed, step))
        with torch.no_grad():
            wanted = grey(decode(crops))
        loss = (decode(network(crops)) - wanted).square().mean()
        set_learning_rate(optimizer, learning_rate(step, steps, PEAK_LEARNING_RATE, 10, 0.5))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress.set_postfix(loss=f"{loss.item():.4f}")
    return network.requires_grad_(False)


def _crops(latents: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Squares of 8x8: whole latents cost four times as much and teach no more."""
    chosen = torch.randint(0, len(latents), (count,), generator=generator).tolist()
    most = latents.shape[-1] - _CROP + 1
    corners = torch.randint(0, most, (count, 2), generator=generator).tolist()
    return torch.stack(
        [
            latents[index, :, y : y + _CROP, x : x + _CROP]
            for index, (y, x) in zip(chosen, corners, strict=True)
        ]
    )

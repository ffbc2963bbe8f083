"""The cheapest preview: a matrix from latents to colours, fitted to the VAE."""

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch.nn import functional

from engine_build.checkpoint.sources import Component
from engine_build.package.export.latents import LatentScaling
from engine_build.package.export.networks import load_network
from runtime.package.manifest import MatrixPreview

_PICTURES = 12
_LATENTS_A_SIDE = 24
_HELD_OUT = 4


def fit_preview(vae: Component, scaling: LatentScaling) -> MatrixPreview:
    """Fit the matrix over pictures that the VAE made.

    Synthetic pictures are encoded and decoded again; each latent then stands beside the mean
    colour, 0 to 1, of the pixels that it became.
    """
    network = load_network(AutoencoderKL, vae)
    latents, colours = _samples(network, scaling, 2 ** (len(vae.setting("block_out_channels")) - 1))
    return fit_matrix(latents, colours, held_out=_HELD_OUT * _LATENTS_A_SIDE**2)


def fit_matrix(
    latents: NDArray[np.float64], colours: NDArray[np.float64], held_out: int
) -> MatrixPreview:
    """Fit `colours [N, 3] = latents [N, C] @ matrix + bias` by least squares.

    The first `held_out` rows take no part in it: `explained` is measured on them.
    """
    design = np.concatenate([latents, np.ones((len(latents), 1))], axis=1)
    solution, *_ = np.linalg.lstsq(design[held_out:], colours[held_out:], rcond=None)
    tested = colours[:held_out]
    residual = ((tested - design[:held_out] @ solution) ** 2).sum()
    spread = ((tested - tested.mean(axis=0)) ** 2).sum()
    explained = 1 - residual / spread if spread > 0 else 0.0
    rows = [(float(red), float(green), float(blue)) for red, green, blue in solution]
    return MatrixPreview(
        matrix=tuple(rows[:-1]), bias=rows[-1], explained=float(np.clip(explained, 0, 1))
    )


def synthetic_pictures(count: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Pictures `[count, 3, side, side]` from -1 to 1 with natural statistics: a smooth ground of
    all scales in random colours, and patches of one colour with hard edges."""
    pictures = torch.zeros(count, 3, side, side)
    scale = 2
    while scale <= side:
        noise = torch.randn(count, 3, scale, scale, generator=generator)
        pictures += functional.interpolate(noise, size=(side, side), mode="bilinear") / scale**0.7
        scale *= 2
    pictures = torch.tanh(pictures * 1.5)
    for picture in pictures:
        for _ in range(6):
            top, left = torch.randint(side * 3 // 4, (2,), generator=generator).tolist()
            height, width = torch.randint(side // 8, side // 3, (2,), generator=generator).tolist()
            colour = torch.rand(3, 1, 1, generator=generator) * 2 - 1
            picture[:, top : top + height, left : left + width] = colour
    return pictures


def _samples(
    network: Any, scaling: LatentScaling, scale_factor: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latents `[N, C]` as the denoiser sees them, and colours `[N, 3]` from 0 to 1."""
    generator = torch.Generator().manual_seed(0)
    pictures = synthetic_pictures(_PICTURES, _LATENTS_A_SIDE * scale_factor, generator)
    latents, colours = [], []
    with torch.no_grad():
        for picture in pictures:
            encoded = network.encode(picture[None]).latent_dist.mean
            scaled = scaling.to_denoiser(encoded)
            decoded = network.decode(scaling.to_autoencoder(scaled)).sample
            shown = (decoded * 0.5 + 0.5).clamp(0, 1)
            latents.append(_pixels(scaled))
            colours.append(_pixels(functional.avg_pool2d(shown, scale_factor)))
    return np.concatenate(latents), np.concatenate(colours)


def _pixels(images: torch.Tensor) -> NDArray[np.float64]:
    """`[1, C, h, w]` to `[h * w, C]`."""
    return images[0].permute(1, 2, 0).flatten(0, 1).double().numpy()

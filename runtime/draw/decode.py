"""Latents -> pixels: by the VAE for pictures, by a small network or a matrix for previews."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.backends.protocol import Engine
from runtime.package.manifest import MatrixPreview

Pixels = NDArray[np.uint8]
"""`[H, W, 3]`, sRGB."""


class Decoder(Protocol):
    """Turns the denoiser's latents `[1, C, h, w]` into pixels."""

    def decode(self, latents: NDArray[np.float32]) -> Pixels:
        """Pixels `[H, W, 3]`; a preview's decoder may give fewer, down to `[h, w, 3]`."""
        ...


class NetworkDecoder:
    """A decoder that is one of the package's networks: the VAE's, or a small one for previews."""

    def __init__(self, engine: Engine) -> None:
        """`engine` takes `latents` and gives `image`, uint8 `[B, H, W, 3]`."""
        self._engine = engine

    def decode(self, latents: NDArray[np.float32]) -> Pixels:
        """Pixels `[H, W, 3]`."""
        image: Pixels = self._engine.run({"latents": latents})["image"][0]
        return image


class MatrixDecoder:
    """A decoder that makes a pixel of each latent, by a linear map that the build fitted."""

    def __init__(self, preview: MatrixPreview) -> None:
        """`preview` gives rgb in 0..1 as `latents @ matrix + bias`."""
        self._matrix = np.array(preview.matrix, np.float32)
        self._bias = np.array(preview.bias, np.float32)

    def decode(self, latents: NDArray[np.float32]) -> Pixels:
        """Pixels `[h, w, 3]`."""
        rgb = np.tensordot(latents[0], self._matrix, axes=(0, 0)) + self._bias
        pixels: Pixels = (np.clip(rgb, 0, 1) * 255).round().astype(np.uint8)
        return pixels

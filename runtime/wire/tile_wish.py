"""The wish for tiles of the VAE, as users write it: `auto`, `off`, or a number of pixels."""

from typing import Literal

TileWish = Literal["auto", "off"] | int
"""`auto`: tiles where a picture does not fit the memory whole; `off`: never; a number: tiles of so
many pixels a side for every larger picture."""

SMALLEST_TILE = 128
"""In pixels. Tiles of 80 pixels showed: along their seams the difference to the picture decoded
whole changed twice as fast as elsewhere."""
MULTIPLE = 8
"""Pixels of a latent, a side, in every family's autoencoder."""


def read_tile_wish(text: str) -> TileWish:
    """The wish that a text is. Raises ValueError that says what was expected."""
    match text:
        case "auto" | "off":
            return text
    pixels = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if pixels < SMALLEST_TILE or pixels % MULTIPLE:
        raise ValueError(
            f"expected auto, off, or a multiple of {MULTIPLE} pixels from {SMALLEST_TILE} on"
        )
    return pixels

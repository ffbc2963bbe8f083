"""The VAE's decoder as pictures of any size are given to it: whole, or in tiles where a picture
does not fit the memory.

A picture is decoded whole wherever that fits, since tiles change it a little. The choice is made
once for each size, so that the same request gives the same picture for as long as the process runs.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from runtime.draw.decode import Decoder, Pixels
from runtime.draw.decode_room import DecodeRoom
from runtime.draw.tiles import TiledDecoder
from runtime.errors import BackendError, DeviceError, lacks_memory
from runtime.wire.tile_wish import SMALLEST_TILE, TileWish

SHARE = 0.9
"""The part of the free memory that a decoding may take, by the estimate."""

Size = tuple[int, int]
"""Width and height, in pixels."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Way:
    """The way in which pictures of one size are decoded."""

    tile: Size | None = None
    """None: whole."""
    note: str = ""
    """A sentence on the tiles and their reason; empty for none."""


class FittingDecoder:
    """Decodes pictures whole where they fit, and in tiles elsewhere. For one thread at a time."""

    def __init__(
        self,
        decoder: Decoder,
        room: DecodeRoom,
        wish: TileWish,
        free: Callable[[], int | None],
    ) -> None:
        """`free` tells the bytes that a decoding can have, None for unknown. Raises BackendError
        where the engine does not take tiles of the size that was asked for.
        """
        check_tile(room, wish)
        self._decoder = decoder
        self._room = room
        self._wish = wish
        self._free = free
        self._ways: dict[Size, Way] = {}
        self._held = 0

    def decode(self, latents: NDArray[np.float32]) -> Pixels:
        """Pixels `[H, W, 3]` of latents `[1, C, h, w]`. Raises BackendError."""
        *_, height, width = latents.shape
        size = width * self._room.scale, height * self._room.scale
        if size not in self._ways:
            self._take(size, self._chosen(size))
        if self._ways[size].tile is None:
            try:
                return self._whole(latents, size)
            except DeviceError:
                raise
            except BackendError as error:
                self._take(size, self._second(size, error))
        return self._tiled(latents, size)

    def note(self, width: int, height: int) -> str:
        """A sentence on pictures of this size that were decoded in tiles; empty for whole ones."""
        return self._ways.get((width, height), Way()).note

    @property
    def notes(self) -> list[str]:
        """The sentences on all sizes that were decoded in tiles so far."""
        return [way.note for way in self._ways.values() if way.note]

    def _take(self, size: Size, way: Way) -> None:
        self._ways[size] = way
        if way.note:
            logger.warning("%s", way.note)

    def _whole(self, latents: NDArray[np.float32], size: Size) -> Pixels:
        pixels = self._decoder.decode(latents)
        # Its memory stays with the vendor's library, for the next one.
        self._held = max(self._held, self._room.wanted(*size))
        return pixels

    def _tiled(self, latents: NDArray[np.float32], size: Size) -> Pixels:
        tile = self._ways[size].tile
        assert tile is not None, "a size that is not decoded whole has a tile"
        width, height = (side // self._room.scale for side in tile)
        pixels = TiledDecoder(self._decoder, (height, width), self._room.scale).decode(latents)
        self._held = max(self._held, self._room.wanted(*tile))
        return pixels

    def _chosen(self, size: Size) -> Way:
        if self._wish == "off":
            return Way()
        if isinstance(self._wish, int):
            larger = max(size) > self._wish
            return self._largest(size, [(self._wish,) * 2], "as asked for") if larger else Way()
        free = self._free()
        if self._room.takes(*size) and self._fits(size, free):
            return Way()
        reason = f"whole it takes some {_gb(self._room.wanted(*size))} GB"
        if free is not None:
            reason += f", and {_gb(free + self._held)} are free"
        return self._largest(size, _sides(self._room), reason)

    def _second(self, size: Size, error: BackendError) -> Way:
        """The way after an attempt to decode whole, which failed. Raises `error` for none."""
        way = Way()
        if self._wish == "auto" and lacks_memory(str(error)):
            way = self._largest(size, _sides(self._room), f"memory fell short: {error}")
        if way.tile is None:
            raise error
        return way

    def _largest(self, size: Size, sides: Sequence[Size], reason: str) -> Way:
        """Tiles of the largest of `sides` that fits, or else of the smallest; the picture whole,
        with a warning, where the engine takes none of them. `sides` begin with the largest.
        """
        clipped = [(min(side[0], size[0]), min(side[1], size[1])) for side in sides]
        tiles = [tile for tile in clipped if _divides(tile, size) and self._room.takes(*tile)]
        if not tiles:
            logger.warning("%s are decoded whole: no tile is fit for them (%s)", _of(size), reason)
            return Way()
        free = self._free()
        tile = next((tile for tile in tiles if self._fits(tile, free)), tiles[-1])
        return Way(
            tile,
            f"{_of(size)} are decoded in tiles of {tile[0]}x{tile[1]} and so differ a little from "
            f"those decoded whole ({reason})",
        )

    def _fits(self, size: Size, free: int | None) -> bool:
        wanted = self._room.wanted(*size)
        return free is None or wanted <= max(self._held, SHARE * (free + self._held))


def check_tile(room: DecodeRoom, wish: TileWish) -> None:
    """Raises BackendError where an engine does not take tiles of the size that was asked for."""
    if isinstance(wish, int) and (wish % room.scale or not room.takes(wish, wish)):
        taken = ", ".join(str(each) for each in room.sizes) or f"multiples of {room.scale}"
        raise BackendError(
            f"--vae-tile {wish}: the engine of the VAE does not take {wish}x{wish} pixels, but "
            f"{taken}; ask for another tile, or compile the size too, with --sizes"
        )


def _sides(room: DecodeRoom) -> list[Size]:
    """The sizes of tiles, the largest first: those that the engine was compiled for, or else
    squares of the package's own size and of its halves.
    """
    if room.sizes:
        sizes = [(each.max_width, each.max_height) for each in room.sizes]
        return sorted(sizes, key=prod, reverse=True)
    side, sides = max(room.usual, SMALLEST_TILE), []
    while side >= SMALLEST_TILE:
        sides.append((side, side))
        side = side // 2 // room.scale * room.scale
    return sides


def _divides(tile: Size, size: Size) -> bool:
    """True where a picture has several such tiles, none too small for a seam that is not seen."""
    cut = [part for part, whole in zip(tile, size, strict=True) if part < whole]
    return bool(cut) and min(cut) >= SMALLEST_TILE


def _of(size: Size) -> str:
    return f"pictures of {size[0]}x{size[1]} pixels"


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f}"

"""A picture decoded tile by tile, where decoding the whole picture would take too much memory.

Tiles overlap by a fourth of their side at least. Along each overlap one tile fades into the next;
a margin of each tile, whose pixels lack the context beyond the tile's edge, has no weight. All
tiles of a picture have one shape, which engines of fixed shapes need: the tiles are spread evenly,
the first and the last at the picture's edges.

A tile has group norms (and attention) of its own, so that the picture differs a little from the
picture decoded whole, although the tones of tiles are matched (`tones.py`): docs/onnxruntime.md has
the figures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from runtime.draw.decode import Decoder, Pixels
from runtime.draw.tones import Tone, matching_offsets

OVERLAP = 4
"""The part of a tile's side that is the least overlap of two neighbours: one fourth."""
MARGIN = 16
"""The part of a tile's side that has no weight at each edge inside of the picture."""

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Axis:
    """The tiles along one side of a picture, in latents."""

    begins: tuple[int, ...]
    tile: int

    @classmethod
    def spread(cls, extent: int, tile: int) -> Self:
        """As few tiles as cover the extent with the least overlap, evenly spread; a single tile of
        the extent where it is no longer than a tile."""
        if extent <= tile:
            return cls((0,), extent)
        steps = -(-(extent - tile) // (tile - tile // OVERLAP))
        return cls(tuple(round(each * (extent - tile) / steps) for each in range(steps + 1)), tile)

    def shared(self, first: int, scale: int) -> tuple[slice, slice]:
        """The pixels that a tile shares with the next one, in either, without their margins."""
        margin = self.tile // MARGIN
        shift = self.begins[first + 1] - self.begins[first]
        return (
            slice((shift + margin) * scale, (self.tile - margin) * scale),
            slice(margin * scale, (self.tile - shift - margin) * scale),
        )

    def weights(self, scale: int) -> list[Weights]:
        """Of each tile, the weight of each of its pixels, `scale` to a latent. The weights of all
        tiles at a pixel have the sum 1.
        """
        margin = self.tile // MARGIN * scale
        pixels = np.arange(self.tile * scale) + 0.5
        made = [np.ones(len(pixels)) for _ in self.begins]
        for at, (before, behind) in enumerate(zip(self.begins, self.begins[1:], strict=False)):
            shift = (behind - before) * scale
            overlap = self.tile * scale - shift
            fade = _fade((pixels - margin) / (overlap - 2 * margin))
            made[at + 1] *= fade
            made[at][shift:] *= 1 - fade[:overlap]
        # Three tiles may lie over one another.
        places = [slice(begin * scale, (begin + self.tile) * scale) for begin in self.begins]
        sums = np.zeros(places[-1].stop)
        for place, weight in zip(places, made, strict=True):
            sums[place] += weight
        return [
            (weight / sums[place]).astype(np.float32)
            for place, weight in zip(places, made, strict=True)
        ]


class TiledDecoder:
    """A decoder that gives its latents to another one, tile by tile."""

    def __init__(self, decoder: Decoder, tile: tuple[int, int], scale: int) -> None:
        """`tile` is a tile's height and width in latents, a side of 16 or more where the picture
        is larger; `decoder` makes `scale` pixels of a latent, a side.
        """
        self._decoder = decoder
        self._tile = tile
        self._scale = scale

    def decode(self, latents: NDArray[np.float32]) -> Pixels:
        """Pixels `[H, W, 3]`. Held beside them are the tiles, in 8 bits, and sums of a row of
        tiles.
        """
        *_, height, width = latents.shape
        rows = Axis.spread(height, self._tile[0])
        columns = Axis.spread(width, self._tile[1])
        tiles = [
            self._decoder.decode(
                np.ascontiguousarray(
                    latents[:, :, top : top + rows.tile, left : left + columns.tile]
                )
            )
            for top in rows.begins
            for left in columns.begins
        ]
        offsets = matching_offsets(len(tiles), _overlaps(tiles, rows, columns, self._scale))
        toned = ((tile, offset) for tile, offset in zip(tiles, offsets, strict=True))
        return _blended(toned, rows, columns, self._scale)


def _overlaps(
    tiles: Sequence[Pixels], rows: Axis, columns: Axis, scale: int
) -> Iterator[tuple[int, int, Tone]]:
    """Each pair of neighbours, with the mean of the second less that of the first where they
    overlap.
    """
    across = len(columns.begins)
    for at in range(len(tiles)):
        row, column = divmod(at, across)
        if column + 1 < across:
            first, second = columns.shared(column, scale)
            yield at, at + 1, _tone(tiles[at + 1][:, second]) - _tone(tiles[at][:, first])
        if row + 1 < len(rows.begins):
            first, second = rows.shared(row, scale)
            yield at, at + across, _tone(tiles[at + across][second]) - _tone(tiles[at][first])


def _blended(toned: Iterator[tuple[Pixels, Tone]], rows: Axis, columns: Axis, scale: int) -> Pixels:
    """The picture of tiles, each with an offset, row by row."""
    height, width = ((each.begins[-1] + each.tile) * scale for each in (rows, columns))
    picture = np.empty((height, width, 3), np.uint8)
    sums = np.zeros((rows.tile * scale, width, 3), np.float32)
    across = columns.weights(scale)
    ends = (*rows.begins[1:], height // scale)
    for begin, end, down in zip(rows.begins, ends, rows.weights(scale), strict=True):
        for left, weight in zip(columns.begins, across, strict=True):
            tile, offset = next(toned)
            place = slice(left * scale, (left + columns.tile) * scale)
            weights = down[:, None, None] * weight[:, None]
            sums[:, place] += (tile + offset.astype(np.float32)) * weights
        # No tile of a later row reaches these.
        done = (end - begin) * scale
        picture[begin * scale : end * scale] = np.clip(np.rint(sums[:done]), 0, 255)
        sums = np.concatenate((sums[done:], np.zeros_like(sums[:done])))
    return picture


def _tone(pixels: Pixels) -> Tone:
    return np.asarray(pixels.mean(axis=(0, 1)))


def _fade(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 at t <= 0 to 1 at t >= 1, with no slope at either end: `3 t^2 - 2 t^3`."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)

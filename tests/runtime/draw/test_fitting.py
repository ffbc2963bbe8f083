"""Pictures decoded whole where that fits, and in tiles where it does not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.draw.decode import Pixels
from runtime.draw.decode_room import DecodeRoom
from runtime.draw.fitting import FittingDecoder
from runtime.errors import BackendError, DeviceError
from runtime.plan.served import SizeRange
from runtime.wire.tile_wish import TileWish

MEGAPIXEL = 2**20
ROOM = DecodeRoom(scale=8, usual=1024, bytes_per_pixel=100)
COMPILED = DecodeRoom(
    8,
    1024,
    100,
    sizes=tuple(SizeRange(w, w, h, h) for w, h in ((512, 512), (1024, 1024), (2048, 2048))),
)
LACKING = BackendError("vae_decoder: ONNX Runtime failed: Failed to allocate memory for Conv_3")


class Noting:
    """A decoder of black pictures that notes their sizes, and fails for those of many pixels."""

    def __init__(self, error: Exception | None = None, most: float = 0) -> None:
        self.sizes: list[tuple[int, int]] = []
        self._error = error
        self._most = most

    def decode(self, latents: NDArray[np.float32]) -> Pixels:
        *_, height, width = latents.shape
        self.sizes.append((width * 8, height * 8))
        if self._error and width * height * 64 > self._most:
            raise self._error
        return np.zeros((height * 8, width * 8, 3), np.uint8)


def fitting(
    decoder: Noting,
    free: float | None = None,
    wish: TileWish = "auto",
    room: DecodeRoom = ROOM,
) -> FittingDecoder:
    """With so many megapixels' memory free; None for unknown."""
    known = None if free is None else int(free * MEGAPIXEL * 100)
    return FittingDecoder(decoder, room, wish, lambda: known)


def drawn(decoder: FittingDecoder, width: int, height: int) -> None:
    pixels = decoder.decode(np.zeros((1, 4, height // 8, width // 8), np.float32))
    assert pixels.shape == (height, width, 3)


@pytest.mark.parametrize(
    ("free", "size", "tile"),
    [
        (None, (2048, 2048), (2048, 2048)),
        (4.5, (2048, 2048), (2048, 2048)),
        (4.4, (2048, 2048), (1024, 1024)),
        (1.2, (2048, 2048), (1024, 1024)),
        (1.1, (2048, 2048), (512, 512)),
        (1.1, (1024, 1024), (512, 512)),
        (0.2, (1024, 1024), (256, 256)),
        # The smallest, though not even that fits.
        (0.0, (1024, 1024), (128, 128)),
        # A side that is no longer than a tile is not cut.
        (0.6, (2048, 512), (1024, 512)),
        (0.0, (2048, 64), (128, 64)),
        # A picture that is no larger than the smallest tile.
        (0.0, (128, 96), (128, 96)),
    ],
)
def test_the_largest_tile_that_fits_is_taken_and_none_where_the_whole_fits(
    free: float | None, size: tuple[int, int], tile: tuple[int, int]
) -> None:
    decoder = Noting()
    chosen = fitting(decoder, free)
    drawn(chosen, *size)
    assert set(decoder.sizes) == {tile}
    note = chosen.note(*size)
    assert bool(note) == (tile != size)
    assert not note or f"tiles of {tile[0]}x{tile[1]}" in note


def test_the_choice_for_a_size_stays_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    free = [2 * MEGAPIXEL * 100]
    decoder = Noting()
    chosen = FittingDecoder(decoder, ROOM, "auto", lambda: free[0])
    for size in ((1024, 1024), (2048, 2048)):
        drawn(chosen, *size)
    assert set(decoder.sizes) == {(1024, 1024)}
    free[0] = 0
    drawn(chosen, 1024, 1024)
    free[0] = 9 * MEGAPIXEL * 100
    drawn(chosen, 2048, 2048)
    assert set(decoder.sizes) == {(1024, 1024)}
    assert chosen.note(1024, 1024) == ""
    [record] = caplog.records
    assert chosen.notes == [record.getMessage()]
    assert "pictures of 2048x2048 pixels are decoded in tiles of 1024x1024" in chosen.notes[0]
    assert "whole it takes some 0.42 GB, and 0.31 are free" in chosen.notes[0]


def test_what_a_decoding_took_is_there_for_the_next() -> None:
    """Libraries keep their memory, so that less is free once a picture was decoded."""
    free = [5 * MEGAPIXEL * 100]
    decoder = Noting()
    chosen = FittingDecoder(decoder, ROOM, "auto", lambda: free[0])
    drawn(chosen, 2048, 2048)
    free[0] = 0
    drawn(chosen, 1024, 2048)
    assert decoder.sizes == [(2048, 2048), (1024, 2048)]


@pytest.mark.parametrize(
    ("wish", "size", "tile"),
    [
        ("off", (2048, 2048), (2048, 2048)),
        (512, (2048, 1024), (512, 512)),
        (512, (512, 512), (512, 512)),
        (512, (1024, 256), (512, 256)),
    ],
)
def test_a_wish_is_kept_whatever_is_free(
    wish: TileWish, size: tuple[int, int], tile: tuple[int, int]
) -> None:
    for free in (0.0, 99.0):
        decoder = Noting()
        drawn(fitting(decoder, free, wish), *size)
        assert set(decoder.sizes) == {tile}


def test_tiles_are_of_a_size_that_was_compiled(caplog: pytest.LogCaptureFixture) -> None:
    for free, tile in ((5.0, 2048), (3.0, 1024), (0.5, 512)):
        decoder = Noting()
        drawn(fitting(decoder, free, room=COMPILED), 2048, 2048)
        assert set(decoder.sizes) == {(tile, tile)}
    decoder = Noting()
    drawn(fitting(decoder, 9.0, room=COMPILED), 4096, 2048)
    assert set(decoder.sizes) == {(2048, 2048)}
    caplog.clear()
    decoder = Noting()
    chosen = fitting(decoder, 0.0, room=COMPILED)
    drawn(chosen, 512, 512)
    assert decoder.sizes == [(512, 512)]
    assert chosen.notes == []
    assert "pictures of 512x512 pixels are decoded whole: no tile is fit" in caplog.text


@pytest.mark.parametrize("wish", [256, 1020])
def test_a_tile_that_no_engine_takes_is_refused_at_once(wish: int) -> None:
    with pytest.raises(BackendError, match=f"--vae-tile {wish}: .*512x512, 1024x1024, 2048x2048"):
        fitting(Noting(), wish=wish, room=COMPILED)


def test_a_whole_picture_that_lacks_memory_is_decoded_in_tiles_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    decoder = Noting(LACKING, most=MEGAPIXEL)
    chosen = fitting(decoder, 9.0)
    drawn(chosen, 2048, 1024)
    assert decoder.sizes[0] == (2048, 1024)
    assert set(decoder.sizes[1:]) == {(1024, 1024)}
    assert "memory fell short: " in caplog.text
    drawn(chosen, 2048, 1024)
    assert decoder.sizes.count((2048, 1024)) == 1


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ("off", LACKING),
        (2048, LACKING),
        ("auto", BackendError("vae_decoder: no engine takes this")),
        ("auto", DeviceError("cudaMalloc: cudaErrorMemoryAllocation: out of memory")),
    ],
)
def test_any_other_failure_is_the_caller_s(wish: TileWish, error: Exception) -> None:
    decoder = Noting(error)
    with pytest.raises(type(error)) as raised:
        drawn(fitting(decoder, 9.0, wish), 2048, 2048)
    assert raised.value is error
    assert decoder.sizes == [(2048, 2048)]

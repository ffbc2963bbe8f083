"""PNG files of ours, as Pillow reads them."""

import os
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from runtime.draw.png import STRIP_ROWS, png

Pixels = NDArray[np.uint8]


def read(content: bytes) -> PngImageFile:
    with Image.open(BytesIO(content)) as checked:
        checked.verify()
    image = Image.open(BytesIO(content))
    assert isinstance(image, PngImageFile)
    image.load()
    return image


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return drawn.astype(np.uint8)


@given(st.integers(1, 3 * STRIP_ROWS), st.integers(1, 40), st.integers(0, 99), st.integers(0, 7))
def test_pixels_are_read_back(height: int, width: int, seed: int, shift: int) -> None:
    """From noise to pictures of few colours, over borders of strips."""
    pixels = noise(height, width, seed) >> shift
    image = read(png(pixels, []))
    assert (image.mode, image.size) == ("RGB", (width, height))
    np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("axis", [0, 1, None])
def test_smooth_pictures_take_few_bytes(axis: int | None) -> None:
    rows, columns = np.mgrid[:200, :200]
    ramp = {0: rows, 1: columns, None: rows + columns}[axis]
    pixels = np.repeat(ramp[..., np.newaxis], 3, axis=2).astype(np.uint8)
    content = png(pixels, [])
    np.testing.assert_array_equal(np.asarray(read(content)), pixels)
    assert len(content) < pixels.nbytes / 20


def test_texts_are_read_back() -> None:
    texts = [("parameters", "a \u732b, 1 \u20ac\nSteps: 2"), ("calotype", '{"prompt": "x"}')]
    image = read(png(noise(70, 3), texts))
    assert image.text == dict(texts)
    assert {type(value).__name__ for value in image.text.values()} == {"iTXt", "str"}


def test_the_stream_is_one_for_any_reader() -> None:
    pixels = noise(2 * STRIP_ROWS + 1, 5)
    content = png(pixels, [])
    begin = content.index(b"IDAT")
    size = int.from_bytes(content[begin - 4 : begin])
    rows = zlib.decompress(content[begin + 4 : begin + 4 + size])
    assert len(rows) == len(pixels) * (5 * 3 + 1)


def test_one_core_writes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(3 * STRIP_ROWS, 9)
    many = png(pixels, [])
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert png(pixels, []) == many

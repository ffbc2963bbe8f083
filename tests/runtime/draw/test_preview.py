"""The small pictures of a job: previews and thumbnails."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from runtime.backends.protocol import Array
from runtime.draw.decode import Pixels
from runtime.draw.preview import Previewer, thumbnail


class Flat:
    """A decoder of one colour, with so many pixels for each latent and axis."""

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def decode(self, latents: Array) -> Pixels:
        *_, height, width = latents.shape
        return np.full((height * self.scale, width * self.scale, 3), (200, 30, 30), np.uint8)


@pytest.mark.parametrize("scale", [1, 4, 8])
@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 1024), (512, 512)),
        ((832, 1216), (350, 512)),
        ((512, 512), (512, 512)),
        ((64, 96), (64, 96)),
        ((2048, 64), (512, 16)),
    ],
)
def test_a_preview_has_the_size_that_is_shown_whatever_its_decoder_gives(
    scale: int, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    """A matrix gives a pixel a latent; networks eight, or four for previews of large pictures."""
    width, height = size
    latents = np.zeros((1, 4, height // 8, width // 8), np.float32)
    content = Previewer(Flat(scale)).jpeg(latents, width, height)
    with Image.open(BytesIO(content)) as image:
        assert (image.format, image.size) == ("JPEG", expected)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1024, 512), (256, 128)), ((300, 900), (85, 256)), ((64, 32), (64, 32))],
)
def test_a_thumbnail_is_a_small_webp(size: tuple[int, int], expected: tuple[int, int]) -> None:
    width, height = size
    pixels = np.full((height, width, 3), (200, 30, 30), np.uint8)
    with Image.open(BytesIO(thumbnail(pixels))) as image:
        assert (image.format, image.size) == ("WEBP", expected)
        red, green, _ = np.asarray(image.convert("RGB"))[0, 0]
    assert red > 150
    assert green < 80

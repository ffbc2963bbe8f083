"""The small pictures of a job: previews and thumbnails."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from runtime.draw.preview import thumbnail


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

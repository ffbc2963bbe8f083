"""Latents that are not finite end a picture, and a black picture is told from a dark one."""

import numpy as np
import pytest

from runtime.draw.soundness import blackness, check_finite
from runtime.errors import PictureError


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_enough(value: float) -> None:
    latents = np.zeros((1, 4, 8, 8), np.float32)
    check_finite(latents)
    latents[0, 2, 3, 4] = value
    with pytest.raises(PictureError, match="not finite after the last step: 1 of 256 numbers"):
        check_finite(latents)


def test_a_black_picture_is_told_from_a_dark_one() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    assert "black all over" in blackness(pixels)
    pixels[7, 7, 2] = 1
    assert blackness(pixels) == ""

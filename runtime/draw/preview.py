"""Small pictures: the preview of a step as a JPEG, and the thumbnail of a finished picture."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.draw.decode import Decoder, Pixels

LONGEST_SIDE = 512
JPEG_QUALITY = 80

THUMBNAIL_SIDE = 256
THUMBNAIL_QUALITY = 80


class Previewer:
    """Latents -> JPEG of the picture's aspect ratio, the longer side at most `longest_side`."""

    def __init__(self, decoder: Decoder, longest_side: int = LONGEST_SIDE) -> None:
        """`decoder` may give any number of pixels: `jpeg` resizes them to the preview's size."""
        self._decoder = decoder
        self._longest_side = longest_side

    def jpeg(self, predicted: NDArray[np.float32], width: int, height: int) -> bytes:
        """The preview of latents `[1, C, h, w]`; the full picture has `width` x `height` pixels."""
        scale = min(1.0, self._longest_side / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = Image.fromarray(self._decoder.decode(predicted))
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()


def thumbnail(pixels: Pixels) -> bytes:
    """A WebP of pixels `[H, W, 3]`, its longest side at most THUMBNAIL_SIDE."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()

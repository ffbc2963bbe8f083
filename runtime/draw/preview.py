"""Previews: what the model believes the picture to be, as a small JPEG at every step."""

import base64
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.draw.decode import Decoder

LONGEST_SIDE = 512
JPEG_QUALITY = 80


class Previewer:
    """Latents -> JPEG, of the picture's own shape and at most `longest_side` pixels."""

    def __init__(self, decoder: Decoder, longest_side: int = LONGEST_SIDE) -> None:
        """`decoder` may give fewer pixels than the picture has: they are enlarged."""
        self._decoder = decoder
        self._longest_side = longest_side

    def jpeg(self, predicted: NDArray[np.float32], width: int, height: int) -> bytes:
        """The predicted picture, latents `[1, C, h, w]` of a picture of `width` x `height`."""
        scale = min(1.0, self._longest_side / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = Image.fromarray(self._decoder.decode(predicted))
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()


def data_url(jpeg: bytes) -> str:
    """A JPEG as a browser's img takes it."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")

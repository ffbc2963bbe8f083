"""Texts that a picture file carries: A1111's `parameters`, and the request as JSON.

They stand in the file's head. Pixels are not decoded: a picture may come from anybody.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO
from warnings import catch_warnings

from PIL import Image

from runtime.exif import exif_comment, exif_description

JSON_KEY = "calotype"
TEXT_KEY = "parameters"

UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError),
    *(AttributeError, AssertionError, struct.error, Image.DecompressionBombError, MemoryError),
)
"""All that Pillow raises for bytes that are no picture, or a damaged one."""

_FORMATS = ("PNG", "WEBP", "JPEG")


@dataclass(frozen=True, slots=True)
class PictureTexts:
    """The texts, each empty where the file has none; and the size in pixels."""

    parameters: str
    recipe: str
    width: int
    height: int


def read_texts(content: BinaryIO) -> PictureTexts | None:
    """The texts of an open file; None for no PNG, WebP or JPEG that can be read."""
    try:
        # Pillow warns of fields that it makes nothing of, on several lines.
        with catch_warnings(action="ignore"), Image.open(content, formats=_FORMATS) as image:
            parameters = image.info.get(TEXT_KEY) or exif_comment(image)
            recipe = image.info.get(JSON_KEY) or exif_description(image)
            return PictureTexts(_text(parameters), _text(recipe), *image.size)
    except UNREADABLE:
        return None


def _text(found: object) -> str:
    return found if isinstance(found, str) else ""

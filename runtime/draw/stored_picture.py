"""A picture file of a gallery, read back: its account of itself, and its thumbnail made anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import catch_warnings

import numpy as np
from PIL import Image

from runtime.draw.infotext import model_of
from runtime.draw.preview import thumbnail
from runtime.picture_texts import UNREADABLE, read_texts
from runtime.plan.request import read_json


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A file's account of itself."""

    width: int
    height: int
    model: str
    """Empty where the file does not name it."""
    request: Mapping[str, Any]
    """Empty where there is no recipe of ours."""


def read_stored(path: Path) -> StoredPicture | None:
    """The account in the file's head; None for no picture that can be read. Raises OSError.

    The pixels are not decoded.
    """
    with path.open("rb") as content:
        texts = read_texts(content)
    if texts is None:
        return None
    model, request = model_of(texts.parameters), _request(texts.recipe)
    return StoredPicture(texts.width, texts.height, model, request)


def stored_thumbnail(path: Path) -> bytes | None:
    """The picture's thumbnail; None for no picture that can be read. Raises OSError."""
    with path.open("rb") as content:
        try:
            with catch_warnings(action="ignore"), Image.open(content) as image:
                return thumbnail(np.asarray(image.convert("RGB")))
        except UNREADABLE:
            return None


def _request(recipe: str) -> Mapping[str, Any]:
    try:
        request = read_json(recipe)
    except (ValueError, RecursionError):
        return {}
    return request if isinstance(request, dict) else {}

"""The recipe inside a picture file: the request that made the picture.

The complete request is there as JSON, so that the same request can be made again; beside the JSON
is the `parameters` text of A1111, which most tools of the field read. A JPEG has room for 64 KB:
where both do not fit, the picture gets as much of its recipe as does.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from warnings import catch_warnings
from zlib import Z_RLE

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from runtime.draw.decode import Pixels
from runtime.draw.infotext import Infotext
from runtime.errors import RequestError
from runtime.exif import CAPACITY, exif_block, exif_comment, exif_description
from runtime.picture_texts import JSON_KEY, TEXT_KEY, UNREADABLE
from runtime.plan.request import GenerateRequest, read_json

EXTENSIONS = {"png": "png", "webp": "webp", "jpeg": "jpg"}


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture that was encoded."""

    content: bytes
    warning: str | None
    """A sentence on what the recipe lacks; None for a whole one."""


def encode_picture(pixels: Pixels, request: GenerateRequest, text: Infotext) -> PictureFile:
    """The picture file, in the request's format, with the recipe inside."""
    image = Image.fromarray(pixels)
    buffer = BytesIO()
    if request.output_format == "png":
        # The filters leave runs and small numbers, and next to nothing for a search of matches.
        image.save(buffer, "PNG", pnginfo=_png_info(request, text), compress_type=Z_RLE)
        return PictureFile(buffer.getvalue(), None)
    if request.output_format == "webp":
        exif = exif_block(_json(request, ascii_only=True), text.text())
        image.save(buffer, "WEBP", exif=exif, lossless=True)
        return PictureFile(buffer.getvalue(), None)
    exif, warning = next(
        (block, warning) for block, warning in _blocks(request, text) if len(block) <= CAPACITY
    )
    image.save(buffer, "JPEG", exif=exif, quality=92)
    return PictureFile(buffer.getvalue(), warning)


def _png_info(request: GenerateRequest, text: Infotext) -> PngInfo:
    info = PngInfo()
    parameters = text.text()
    add = info.add_text if parameters.isascii() else info.add_itxt
    add(TEXT_KEY, parameters)
    info.add_text(JSON_KEY, _json(request, ascii_only=True).decode())
    return info


def _blocks(request: GenerateRequest, text: Infotext) -> Iterator[tuple[bytes, str | None]]:
    """EXIF blocks, each shorter than the one before, with what is to be said of them."""
    whole = text.text()
    yield exif_block(_json(request, ascii_only=True), whole), None
    # Readers expect ASCII in that field, but take UTF-8, in which most scripts are shorter.
    recipe = _json(request, ascii_only=False)
    yield exif_block(recipe, whole), None
    for kept, lacks in (
        (recipe, "other tools find a part of the prompts in it"),
        (None, "it cannot be drawn again from its file, and a part of the prompts is in it"),
    ):
        room = CAPACITY - len(exif_block(kept, ""))
        short = text.shortened(room // 2)
        if short is not None:
            yield exif_block(kept, short), _shortened(lacks)
    yield exif_block(None, None), _shortened("it has none")


def _shortened(lacks: str) -> str:
    return (
        f"The picture's recipe is longer than the 64 KB that a JPEG takes: {lacks}; "
        "png and webp take all of it."
    )


def _json(request: GenerateRequest, *, ascii_only: bool) -> bytes:
    return json.dumps(request.to_json(), ensure_ascii=ascii_only).encode()


def read_recipe(path: Path) -> object:
    """The JSON request that a picture carries. Raises RequestError for any other file."""
    try:
        # Pillow warns of fields that it makes nothing of, on several lines.
        with catch_warnings(action="ignore"), Image.open(path) as image:
            image.load()
            recipe = image.info.get(JSON_KEY) or exif_description(image)
    except UNREADABLE as error:
        raise RequestError("", f"{path}: no picture that can be read ({error})") from error
    try:
        return read_json(recipe if isinstance(recipe, str | bytes) else "")
    except (ValueError, RecursionError):
        raise RequestError("", f"{path}: a picture without a recipe of ours in it") from None


def read_parameters_text(path: Path) -> str:
    """The A1111 text that a picture carries; empty where there is none."""
    with Image.open(path) as image:
        image.load()
        found: Any = image.info.get(TEXT_KEY)
        return exif_comment(image) if found is None else str(found)

"""The recipe inside a picture file: the request that made the picture.

The complete request is there as JSON, so that the same request can be made again; beside the JSON
is the `parameters` text of A1111, which most tools of the field read.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from runtime.draw.decode import Pixels
from runtime.errors import RequestError
from runtime.plan.request import GenerateRequest

JSON_KEY = "calotype"
TEXT_KEY = "parameters"

# EXIF tags by number, as its standard gives them.
_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
_IMAGE_DESCRIPTION = 0x010E
_UTF16 = b"UNICODE\0"

EXTENSIONS = {"png": "png", "webp": "webp", "jpeg": "jpg"}

# Our samplers by the names of A1111, which other tools look up.
_SAMPLER_TITLES = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "ddim": "DDIM",
    "heun": "Heun",
    "lms": "LMS",
    "dpm++_2m": "DPM++ 2M",
    "dpm++_2m_sde": "DPM++ 2M SDE",
    "dpm++_sde": "DPM++ SDE",
}


def encode_picture(pixels: Pixels, request: GenerateRequest, model: str) -> bytes:
    """The bytes of the picture file, in the request's format, with the recipe inside."""
    image = Image.fromarray(pixels)
    text = parameters_text(request, model)
    recipe = json.dumps(request.to_json())
    buffer = BytesIO()
    if request.output_format == "png":
        info = PngInfo()
        info.add_itxt(TEXT_KEY, text) if not text.isascii() else info.add_text(TEXT_KEY, text)
        info.add_text(JSON_KEY, recipe)
        image.save(buffer, "PNG", pnginfo=info, compress_level=4)
    else:
        exif = Image.Exif()
        exif[_IMAGE_DESCRIPTION] = recipe
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = _UTF16 + text.encode("utf-16-be")
        quality = {"quality": 92} if request.output_format == "jpeg" else {"lossless": True}
        image.save(buffer, request.output_format.upper(), exif=exif, **quality)
    return buffer.getvalue()


def read_recipe(path: Path) -> object:
    """The JSON request that a picture carries. Raises RequestError for any other file."""
    try:
        with Image.open(path) as image:
            image.load()
            recipe = image.info.get(JSON_KEY) or image.getexif().get(_IMAGE_DESCRIPTION)
    except (OSError, UnidentifiedImageError) as error:
        raise RequestError("", f"{path}: no picture that can be read ({error})") from error
    try:
        return json.loads(recipe or "")
    except ValueError:
        raise RequestError("", f"{path}: a picture without a recipe of ours in it") from None


def read_parameters_text(path: Path) -> str:
    """The A1111 text that a picture carries; empty where there is none."""
    with Image.open(path) as image:
        image.load()
        if TEXT_KEY in image.info:
            return str(image.info[TEXT_KEY])
        comment: Any = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
    return bytes(comment).removeprefix(_UTF16).decode("utf-16-be")


def parameters_text(request: GenerateRequest, model: str) -> str:
    """The request in A1111's form: prompt, negative prompt, then one line of settings."""
    settings = {
        "Steps": request.steps,
        "Sampler": _SAMPLER_TITLES.get(request.sampler, request.sampler),
        "Schedule type": "Karras" if request.schedule == "karras" else "Automatic",
        "CFG scale": request.cfg_scale,
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        "Model": model,
        "Clip skip": request.clip_skip + 2 if request.clip_skip else None,
        "CFG Rescale phi": request.guidance_rescale or None,
    }
    loras = "".join(f" <lora:{lora.id}:{lora.weight:g}>" for lora in request.loras)
    lines = [request.prompt + loras]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(
        ", ".join(f"{name}: {value}" for name, value in settings.items() if value is not None)
    )
    return "\n".join(lines)

"""Fields of a request as flags of the command line.

A flag only puts its value into the body, which the model's schema checks: the command line and the
API refuse the same requests in the same words.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from runtime.draw.recipe import read_recipe
from runtime.errors import RequestError, quoted
from runtime.plan.request import read_json

_NUMBERS = {
    "width": (int, "pixels"),
    "height": (int, "pixels"),
    "seed": (int, "gives the same picture again; drawn when left out"),
    "steps": (int, "steps of the scheduler"),
    "cfg_scale": (float, "how strongly the prompt is followed; 1 is no guidance"),
    "clip_skip": (int, "how many more of the text encoders' last layers are left out"),
    "guidance_rescale": (float, "0 to 1: keeps strong guidance from overexposing"),
    "preview_every": (int, "a preview every so many steps"),
}
_WORDS = {
    "negative_prompt": "what the picture must not show",
    "sampler": "how the noise is taken away",
    "schedule": "how the noise levels are spaced",
    "output_format": "png, webp or jpeg",
}


def add_request_flags(parser: argparse.ArgumentParser) -> None:
    """Add the prompt, a flag for each field of a request, and `--request` for a whole body."""
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what the picture shows")
    group = parser.add_argument_group(
        "request", "fields of the request; `calotype info` says what the model takes"
    )
    group.add_argument(
        "--request",
        type=Path,
        metavar="FILE",
        help="a whole request: a JSON file, or a picture that carries one; flags override it",
    )
    for name, (kind, text) in _NUMBERS.items():
        group.add_argument(_flag(name), dest=name, type=kind, metavar="N", help=text)
    for name, text in _WORDS.items():
        group.add_argument(_flag(name), dest=name, metavar=name.upper(), help=text)
    group.add_argument(
        "--guidance-interval",
        nargs=2,
        type=float,
        metavar=("FROM", "TO"),
        help="the share of the steps in which guidance acts",
    )
    group.add_argument(
        "--prompt-weighting",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether (word:1.2) and [word] change a word's emphasis",
    )
    group.add_argument(
        "--lora",
        action="append",
        type=_lora,
        metavar="ID:WEIGHT",
        help="a LoRA pack and its weight; may be given several times",
    )


def body_from_flags(arguments: argparse.Namespace) -> object:
    """The request's body. Raises RequestError for a `--request` file without a body."""
    names = ["prompt", *_NUMBERS, *_WORDS, "guidance_interval", "prompt_weighting"]
    given = {name: getattr(arguments, name) for name in names}
    flags: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if arguments.lora:
        flags["loras"] = arguments.lora
    if arguments.request is None:
        return flags
    body = _read_body(arguments.request)
    if isinstance(body, dict):
        body.update(flags)
    return body


def _read_body(path: Path) -> object:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RequestError("/request", f"{path}: cannot be read: {error.strerror}") from error
    if path.suffix.lower() in {".png", ".webp", ".jpg", ".jpeg"}:
        return read_recipe(path)
    try:
        return read_json(raw)
    except (ValueError, RecursionError) as error:
        raise RequestError("/request", f"{path}: no JSON ({error})") from error


def _lora(text: str) -> dict[str, Any]:
    name, separator, weight = text.rpartition(":")
    if not separator:
        return {"id": text}
    try:
        return {"id": name, "weight": json.loads(weight)}
    except (ValueError, RecursionError):
        detail = f"{quoted(text)}: expected ID:WEIGHT with a number for the weight, such as ink:0.8"
        raise argparse.ArgumentTypeError(detail) from None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")

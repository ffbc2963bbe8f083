"""Flags and types of arguments that several commands share."""

import argparse
import re
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def add_engines(parser: argparse.ArgumentParser) -> None:
    """Add `--engines`."""
    parser.add_argument(
        "--engines",
        type=Path,
        default=Path("engines"),
        metavar="DIR",
        help="the folder of model packages; default: engines",
    )


def package_name(text: str) -> str:
    """A name that a folder and a request can have."""
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name for a package: 1 to 64 letters, digits, dots, dashes or "
            "underscores, the first a letter or digit"
        )
    return text


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """Width and height in pixels, written `1024x768`."""
    width, cross, height = text.partition("x")
    if not cross:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 1024x1024")
    return positive(width), positive(height)

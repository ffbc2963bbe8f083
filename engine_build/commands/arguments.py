"""Flags and types of arguments that several commands share."""

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine_build.fetch.located import Fetching

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


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add `--cache` and `--quiet`, which `fetching` reads."""
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where downloads are kept; default: $CALOTYPE_CACHE, or ~/.cache/calotype",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def fetching(options: argparse.Namespace) -> "Fetching":
    """How the command fetches what it is referred to."""
    # Here, since commands that fetch nothing need no library of a build.
    from engine_build.fetch.located import Fetching

    named = os.environ.get("CALOTYPE_CACHE")
    cache = options.cache or (Path(named) if named else Path.home() / ".cache" / "calotype")
    return Fetching(cache, show_progress=not options.quiet)


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

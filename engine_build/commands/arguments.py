"""Flags and types of arguments that several commands share."""

import argparse
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.files import ENGINES, cache_folder, engines_folder

if TYPE_CHECKING:
    from engine_build.fetch.located import Fetching

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_WIDTH = 78

SOURCES = """\
A source is a folder that diffusers saved: it holds model_index.json and a folder for each network,
tokenizer and scheduler, with weights as .safetensors files.
Or it is a single-file checkpoint of SDXL, Flux, Chroma or Z-Image, with such a folder as its
--base, or with its line's preset, which names one.
Either may be a path, a Hugging Face id (owner/name, owner/name@revision,
owner/name/file.safetensors), urn:air:sdxl:checkpoint:civitai:MODEL@VERSION, civitai:VERSION or a
URL. Tokens come from HF_TOKEN and CIVITAI_TOKEN.
A build of SDXL takes some minutes, 3 GB of memory and as much disk as the source, or next to none
with --in-place. docs/models.md has the other lines.
"""
"""Help on the sources of a package."""


def describe(
    parser: argparse.ArgumentParser, description: str, *examples: str, more: str = ""
) -> None:
    """Set a command's help: a description, example command lines, and then `more` word for word."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = textwrap.fill(description, _WIDTH)
    parser.epilog = "\n  ".join(["example:", *examples]) + (f"\n\n{more}" if more else "")


def add_engines(parser: argparse.ArgumentParser) -> None:
    """Add `--engines`."""
    parser.add_argument(
        "--engines",
        type=Path,
        default=engines_folder(),
        metavar="DIR",
        help=f"the folder of model packages ({ENGINES}); default: %(default)s; "
        "the model demo comes with Calotype",
    )


def add_verify_files(parser: argparse.ArgumentParser) -> None:
    """Add `--verify-files`."""
    parser.add_argument(
        "--verify-files",
        action="store_true",
        help="read and hash every file anew, also those whose hash is known",
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
    """The cache and the progress of a command that fetches, from its flags. Without `--cache`, the
    cache is $CALOTYPE_CACHE, or else ~/.cache/calotype."""
    # Here, since commands that fetch nothing need no library of a build.
    from engine_build.fetch.located import Fetching

    return Fetching(options.cache or cache_folder(), show_progress=not options.quiet)


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

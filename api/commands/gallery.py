"""`calotype gallery`: look after the gallery of a data folder."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from api.commands.settings_flags import settings_flags
from api.settings import read_settings
from runtime.draw.stored_picture import read_stored, stored_thumbnail
from runtime.jobs.reindex import Reader, Reindexed, Told, reindex
from runtime.plan.request import MAX_SEED

_BARE: Mapping[str, Any] = {
    "prompt": "",
    "negative_prompt": None,
    "seed": 0,
    "steps": 1,
    "loras": [],
    "prompt_weighting": False,
    "priority": "interactive",
}
"""A request as far as all that read one go, for a picture without a recipe."""

UNKNOWN = "unknown"
"""The model of a picture that does not name it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's actions."""
    parser.description = "Look after the gallery of a data folder. No server may be running there."
    parser.epilog = "Example: calotype gallery reindex --data data"
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    words = "rebuild the list of pictures from their files"
    action = actions.add_parser(
        "reindex",
        help=words,
        description=f"{words.capitalize()}: entries without a file go, files without an entry are "
        "listed with the recipe that is in them, missing thumbnails are made. No file is deleted. "
        "A database that is damaged is kept beside a new one; jobs that waited in it are lost.",
    )
    action.add_argument(
        "--data",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="the server's data folder (CALOTYPE_DATA; default: data)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Do what was asked. Raises CalotypeError, OSError."""
    data = read_settings(settings_flags(arguments)).data
    for line in _lines(reindex(data, Reader(_told, stored_thumbnail), _shown)):
        print(line)


def _told(path: Path) -> Told | None:
    """A file's account of itself, with a request that a job may have."""
    stored = read_stored(path)
    if stored is None:
        return None
    bare = {**_BARE, "width": stored.width, "height": stored.height}
    request = {**bare, **stored.request}
    if not _is_ours(request):
        request = bare
    return Told(stored.width, stored.height, stored.model or UNKNOWN, request)


def _is_ours(request: Mapping[str, Any]) -> bool:
    """True for a request that we may have written; anybody may write into a picture."""
    match request:
        case {
            "prompt": str(),
            "negative_prompt": None | str(),
            "seed": int(seed),
            "steps": int(steps),
            "loras": list(loras),
            "prompt_weighting": bool(),
            "priority": "interactive" | "batch",
        }:
            named = all(isinstance(each, dict) and "id" in each for each in loras)
            return named and 0 <= seed <= MAX_SEED and 0 < steps < 2**31 and _is_text(request)
    return False


def _is_text(request: Mapping[str, Any]) -> bool:
    """True where all of it is Unicode and can be stored."""
    try:
        json.dumps(request, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _shown(names: Sequence[str]) -> Iterable[str]:
    return tqdm(names, unit="picture", disable=None)


def _lines(found: Reindexed) -> Iterable[str]:
    yield (
        f"{found.kept + found.added} pictures are listed: {found.kept} were, {found.added} were "
        f"added; {found.dropped} whose files are gone were dropped; {found.thumbnails} thumbnails "
        "were made"
    )
    if found.left:
        yield f"left alone: {found.left} that cannot be read, or whose job did not complete"
    if found.others:
        yield f"left alone: {found.others} files that are no pictures of ours"
    if found.aside:
        yield f"the damaged database is kept as {found.aside}; jobs that waited in it are lost"

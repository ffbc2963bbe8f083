"""Files and folders that are on disk whole or not at all, whenever process or machine stop; files
that are read ahead of their use; and the JSON in files that others wrote.
"""

import json
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.machine import available_bytes

CACHE = "CALOTYPE_CACHE"
"""The variable that names the folder of what can be had again: downloads, trials."""

ENGINES = "CALOTYPE_ENGINES"
"""The variable that names the folder of model packages."""

_UNFINISHED = ".tmp"

_PIECE = 2**17
"""The bytes that are asked for at once: Linux reads no more for one request, whatever it asks for,
than one of the disk's takes (force_page_cache_ra in mm/readahead.c), and 128 KB is the least."""


_MOST_DIGITS = 310
"""Digits of the largest float."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError, with words for people, and RecursionError."""
    return json.loads(text, parse_int=parse_integer)


def parse_integer(digits: str) -> int:
    """An integer of a JSON text. Raises ValueError for one larger than every float."""
    if len(digits) > _MOST_DIGITS:
        raise ValueError(
            f"it has an integer of {len(digits)} digits, {digits[:9]}...; expected at most "
            f"{_MOST_DIGITS} digits"
        )
    return int(digits)


def cache_folder() -> Path:
    """$CALOTYPE_CACHE, or ~/.cache/calotype."""
    named = os.environ.get(CACHE)
    return Path(named) if named else Path.home() / ".cache" / "calotype"


def engines_folder() -> Path:
    """$CALOTYPE_ENGINES, or `engines`: the folder of model packages."""
    return Path(os.environ.get(ENGINES) or "engines")


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file in one step: `path` keeps its old content until the new one is whole.

    A process that is killed may leave an unfinished file beside `path`; `remove_unfinished` deletes
    that file. Raises OSError.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        unfinished.write_bytes(content)
        put_in_place(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        # Named as the caller knows the file.
        raise type(error)(error.errno, error.strerror, str(path)) from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def put_in_place(finished: Path, place: Path) -> None:
    """Rename a finished file or folder to `place` on the same disk, once its content is on disk.

    A file replaces a file; a folder replaces an empty folder at most. Raises OSError.
    """
    sync(finished)
    finished.replace(place)
    # A new name is on disk only once the folder that lists it is.
    _sync(place.parent)


def sync(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on disk."""
    for each in (*path.rglob("*"), path):
        _sync(each)


def remove(path: Path) -> None:
    """Delete a file if it exists; once this returns the file is off the disk."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


def remove_unfinished(folder: Path) -> None:
    """Delete the files of `write_whole` that killed processes left unfinished in `folder` itself.

    No other process may be writing there.
    """
    for path in folder.glob(f".*{_UNFINISHED}"):
        path.unlink(missing_ok=True)


def read_ahead(paths: Sequence[Path]) -> threading.Thread:
    """Have the system read files into its page cache, in this order, while other work goes on.

    Files are left out from the first that the memory has no room for. Returns the thread that asks
    for them, which nobody need wait for.
    """
    thread = threading.Thread(
        target=_ask_for, args=(paths, available_bytes() or 0), name="read ahead", daemon=True
    )
    thread.start()
    return thread


def _ask_for(paths: Sequence[Path], room: int) -> None:
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return  # Whoever opens the file has the words for it.
        try:
            size = os.fstat(descriptor).st_size
            room -= size
            if room < 0:
                return
            for begin in range(0, size, _PIECE):
                os.posix_fadvise(descriptor, begin, _PIECE, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

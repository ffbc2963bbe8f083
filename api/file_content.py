"""The file of a picture, which may be deleted at any moment."""

from collections.abc import Callable
from pathlib import Path


def file_content(find: Callable[[str], Path | None], filename: str) -> bytes | None:
    """The file's content; None where there is none, also for a file that is deleted meanwhile."""
    path = find(filename)
    try:
        return None if path is None else path.read_bytes()
    except FileNotFoundError:
        return None

"""Pictures and their thumbnails on disk: each file is there whole, or not at all."""

import re
from collections.abc import Iterator
from pathlib import Path

from runtime.files import remove, remove_unfinished, write_whole

_FILENAME = re.compile(r"[0-9a-f]{32}\.(?:png|webp|jpg)", re.ASCII)


def picture_name(job_id: str, extension: str) -> str:
    """File name of a job's picture: the same in every attempt, so that no job makes two."""
    return f"{job_id}.{extension}"


def is_picture_name(filename: str) -> bool:
    """True for a name that `picture_name` makes; no such name leads out of a folder."""
    return _FILENAME.fullmatch(filename) is not None


class Gallery:
    """The folders `images` and `thumbs` of a data folder."""

    def __init__(self, data: Path) -> None:
        """Make the folders that are missing."""
        self._images = data / "images"
        self._thumbs = data / "thumbs"
        for folder in (self._images, self._thumbs):
            folder.mkdir(parents=True, exist_ok=True)

    def add_picture(self, filename: str, content: bytes) -> None:
        """Write the picture's file durably, over one of the same name."""
        write_whole(_inside(self._images, filename), content)

    def add_thumbnail(self, filename: str, content: bytes) -> None:
        """Write the thumbnail's file durably, over one of the same name. Threads may write the
        picture and the thumbnail at once."""
        write_whole(_inside(self._thumbs, filename), content)

    def remove(self, filename: str) -> None:
        """Delete both files, as far as they exist."""
        for folder in (self._images, self._thumbs):
            remove(_inside(folder, filename))

    def picture_path(self, filename: str) -> Path | None:
        """The picture's file; None where there is none, or the name is no picture's."""
        return _found(self._images, filename)

    def thumbnail_path(self, filename: str) -> Path | None:
        """The thumbnail's file, WebP whatever its name ends with; None where there is none."""
        return _found(self._thumbs, filename)

    def names(self) -> Iterator[str]:
        """The file name of every picture or thumbnail on disk."""
        yield from {
            path.name
            for folder in (self._images, self._thumbs)
            for path in folder.iterdir()
            if is_picture_name(path.name)
        }

    def pictures(self) -> tuple[list[str], int]:
        """The file names of all pictures, sorted, and the number of other files beside them."""
        names = [path.name for path in self._images.iterdir() if not path.name.startswith(".")]
        ours = sorted(filter(is_picture_name, names))
        return ours, len(names) - len(ours)

    def remove_unfinished(self) -> None:
        """Delete files that a dead process left half written. No other process may be writing."""
        for folder in (self._images, self._thumbs):
            remove_unfinished(folder)


def _inside(folder: Path, filename: str) -> Path:
    if not is_picture_name(filename):
        raise ValueError(f"{filename!r} is no picture's file name")
    return folder / filename


def _found(folder: Path, filename: str) -> Path | None:
    if not is_picture_name(filename):
        return None
    path = folder / filename
    return path if path.is_file() else None

"""Pictures and their thumbnails on disk: each file is there whole, or not at all."""

import re
from collections.abc import Iterator
from pathlib import Path

from runtime.files import remove, remove_unfinished, write_whole

_FILENAME = re.compile(r"[0-9a-f]{32}\.(?:png|webp|jpg)", re.ASCII)


def picture_name(job_id: str, extension: str) -> str:
    """A job's picture has one name whatever the attempt, so no job makes two pictures."""
    return f"{job_id}.{extension}"


def is_picture_name(filename: str) -> bool:
    """Whether we give such names; nothing that could leave a folder is one."""
    return _FILENAME.fullmatch(filename) is not None


class Gallery:
    """The folders `images` and `thumbs` of a data folder."""

    def __init__(self, data: Path) -> None:
        """Make the folders where they are not there yet."""
        self._images = data / "images"
        self._thumbs = data / "thumbs"
        for folder in (self._images, self._thumbs):
            folder.mkdir(parents=True, exist_ok=True)

    def add(self, filename: str, picture: bytes, thumbnail: bytes) -> None:
        """Write both files; once this returns they are on disk. The same name writes over."""
        write_whole(_inside(self._thumbs, filename), thumbnail)
        write_whole(_inside(self._images, filename), picture)

    def remove(self, filename: str) -> None:
        """Delete both files, where they are there."""
        for folder in (self._images, self._thumbs):
            remove(_inside(folder, filename))

    def picture_path(self, filename: str) -> Path | None:
        """The picture's file; None where there is none, or the name is none of ours."""
        return _found(self._images, filename)

    def thumbnail_path(self, filename: str) -> Path | None:
        """The thumbnail's file, WebP whatever its name ends with; None where there is none."""
        return _found(self._thumbs, filename)

    def names(self) -> Iterator[str]:
        """The file name of every picture or thumbnail that is there."""
        yield from {
            path.name
            for folder in (self._images, self._thumbs)
            for path in folder.iterdir()
            if is_picture_name(path.name)
        }

    def remove_unfinished(self) -> None:
        """Delete what a process that died left half written. No other process may be writing."""
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

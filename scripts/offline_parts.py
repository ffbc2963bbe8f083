"""Parts of a bundle: files of a given size at most, which joined in order are the content."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "bundle.json"
MEBIBYTE = 1024 * 1024


class Parts:
    """Writer of the parts, in order."""

    def __init__(self, folder: Path, size: int) -> None:
        """Write into `folder`, in parts of at most `size` bytes."""
        self._folder = folder
        self._size = size
        self._current = bytearray()
        self._written: list[dict[str, Any]] = []

    def write(self, block: bytes) -> int:
        """Add bytes, in as many parts as they fill; the number of bytes, as any file returns it."""
        self._current += block
        while len(self._current) >= self._size:
            self._end(bytes(self._current[: self._size]))
            del self._current[: self._size]
        return len(block)

    def finished(self) -> list[dict[str, Any]]:
        """Write the last part; name, size and sha256 of every part."""
        if self._current:
            self._end(bytes(self._current))
            self._current.clear()
        return self._written

    def _end(self, content: bytes) -> None:
        name = f"part-{len(self._written) + 1:03}"
        (self._folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        self._written.append({"name": name, "size": len(content), "sha256": digest})


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """Folder to fill; renamed to `output` at the end of the block, and removed on an error."""
    folder = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder)
        raise
    folder.rename(output)


def write_manifest(folder: Path, content: Mapping[str, object]) -> None:
    """Write the manifest of a bundle."""
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")

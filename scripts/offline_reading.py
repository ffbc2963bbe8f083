"""Reads the parts of a bundle on the other machine; lies there beside install.py or unpack.py.

The module needs Python alone, as these scripts do.
"""

from __future__ import annotations  # The types below must not break an older Python.

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST = "bundle.json"
BLOCK = 1024 * 1024


def read_manifest(folder: Path) -> tuple[Any, str, str | None]:
    """Manifest of a bundle, its sha256, which identifies the bundle, and the fault or None."""
    path = folder / MANIFEST
    if not path.is_file():
        return None, "", f"{MANIFEST}: missing; copy it again"
    text = path.read_bytes()
    return json.loads(text), hashlib.sha256(text).hexdigest(), None


def check_parts(folder: Path, parts: list[dict[str, Any]]) -> str | None:
    """Fault of the first part that is not whole; None when all parts are."""
    for number, part in enumerate(parts, start=1):
        show(f"checking part {number} of {len(parts)}")
        path = folder / part["name"]
        if not path.is_file():
            return f"{part['name']}: missing; copy it again"
        if path.stat().st_size != part["size"]:
            size, expected = path.stat().st_size, part["size"]
            return f"{part['name']}: {size} bytes, expected {expected}; copy it again"
        if sha256(path) != part["sha256"]:
            return f"{part['name']}: damaged, its sha256 is another one; copy it again"
    return None


def blocks(folder: Path, parts: list[dict[str, Any]]) -> Iterator[bytes]:
    """Bytes of the parts in order, a block at a time."""
    for part in parts:
        with (folder / part["name"]).open("rb") as stream:
            while True:
                block = stream.read(BLOCK)
                if not block:
                    break
                yield block


def sha256(path: Path) -> str:
    """Hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def show(line: str) -> None:
    """Show a line of progress on a terminal, in the place of the last one; nothing elsewhere."""
    if sys.stderr.isatty():
        print("\r" + line.ljust(60), end="" if line else "\n", file=sys.stderr, flush=True)

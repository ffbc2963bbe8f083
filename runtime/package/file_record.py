"""Records of a package's files: their sizes and hashes, and the faults of files that differ."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass

from runtime.package.hashes import KnownHashes


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FileRecord:
    """The size and hash of a file of the package."""

    sha256: str
    size_bytes: int


def record_file(path: Path) -> FileRecord:
    """Hash a file that goes into a package."""
    with path.open("rb") as stream:
        return FileRecord(hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)


def known_file(path: Path, hashes: KnownHashes) -> FileRecord:
    """Hash a file that goes into a package; `hashes` know the hash from then on."""
    return FileRecord(hashes.read(path), path.stat().st_size)


def size_fault(path: Path, expected: FileRecord, remedy: str) -> str | None:
    """The fault of a file that is seen without reading it, as `file_fault` has it."""
    if not path.is_file():
        return f"{path}: gone, though its package lists it; {remedy}"
    if path.stat().st_size != expected.size_bytes:
        return f"{path}: {path.stat().st_size} bytes, expected {expected.size_bytes}; {remedy}"
    return None


def file_fault(
    path: Path,
    expected: FileRecord,
    remedy: str,
    hashes: KnownHashes,
    advance: Callable[[int], object] = lambda _: None,
) -> str | None:
    """The fault of a file, in a sentence that ends with `remedy`; None for a whole file.

    A file whose hash is known to `hashes` is not read. `advance` hears of the bytes that are read.
    """
    if fault := size_fault(path, expected, remedy):
        return fault
    if hashes.knows(path, expected.sha256):
        return None
    found = hashes.read(path, expected.sha256, advance)
    if found != expected.sha256:
        return (
            f"{path}: changed, sha256 {found[:12]}..., expected {expected.sha256[:12]}...; {remedy}"
        )
    return None

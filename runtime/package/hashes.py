"""Hashes of a package's files, each read in full once and known from then on.

`.hashes.json` in the package's folder is sealed as the manifest is. It holds the hash of every file
that was found whole, with the *stamp* that the file had: size, times of change, inode and device. A
file whose stamp is the same is not read again. Every change of a file's bytes, and every file put
in another's place, changes the stamp: no program sets the time of a file's last status change
(ctime), and a copy has an inode of its own. Bytes that decay on the disk change no stamp:
`forget_hashes` has every file read again.

A file that changed shortly before the hash was begun could change once more under the same stamp,
since a file system's clock has steps. Its hash is not kept (git calls such a file racily clean).
"""

import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from runtime.errors import PackageError
from runtime.files import write_whole
from runtime.package.sealed import read_sealed, seal

FORMAT = 1
HASHES_NAME = ".hashes.json"

SETTLED_NS = 2 * 10**9
"""Nanoseconds without a change after which a file's hash may be kept: the step of the coarsest
clock, FAT's."""

_PIECE = 2**20

_STRICT = ConfigDict(extra="forbid")

logger = logging.getLogger(__name__)


@checked_dataclass(frozen=True, config=_STRICT)
class Stamp:
    """The facts of a file, kept by the file system, of which a change of the file changes some."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


@checked_dataclass(frozen=True, config=_STRICT)
class KnownHash:
    """A file's hash, and the stamp that the file had."""

    sha256: str
    stamp: Stamp


@checked_dataclass(frozen=True, config=_STRICT)
class _Record:
    files: Mapping[str, KnownHash]
    """By the path in the package's folder; by the absolute path for files elsewhere."""
    format: int = FORMAT


_RECORD: TypeAdapter[_Record] = TypeAdapter(_Record)


class KnownHashes:
    """The known hashes of a package's files. A context manager, which keeps new ones at its end.

    Threads may share it. Processes may each have one of the same package.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is the package's. Reads what is known; a damaged record is logged and empty."""
        self._folder = folder
        self._known = _read(folder)
        self._found: dict[str, KnownHash] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._found:
            self._keep()

    def knows(self, path: Path, sha256: str) -> bool:
        """True where the file is known to have this hash, and need not be read. Raises OSError."""
        known = self._known.get(self._name(path))
        return known is not None and known.sha256 == sha256 and known.stamp == _stamp(path.stat())

    def read(
        self,
        path: Path,
        expected: str | None = None,
        advance: Callable[[int], object] = lambda _: None,
    ) -> str:
        """The hash of a file, which is read in full; known from now on where it is `expected`.

        `expected` None: any hash is. `advance` hears of the bytes that were read. Raises OSError.
        """
        began = time.time_ns()
        with path.open("rb") as stream:
            before = _stamp(os.fstat(stream.fileno()))
            sha256 = _sha256(stream.fileno(), advance)
            after = _stamp(os.fstat(stream.fileno()))
        settled = before == after and began - before.ctime_ns >= SETTLED_NS
        if settled and sha256 == (expected or sha256):
            with self._lock:
                self._found[self._name(path)] = KnownHash(sha256, before)
        return sha256

    def _name(self, path: Path) -> str:
        inside = path.is_relative_to(self._folder)
        return str(path.relative_to(self._folder) if inside else path.absolute())

    def _keep(self) -> None:
        """Add what was found to the record on disk, which other processes may have written."""
        try:
            with _locked(self._folder):
                files = {**_read(self._folder), **self._found}
                there = {name: known for name, known in files.items() if self._is_there(name)}
                write_whole(self._folder / HASHES_NAME, seal(_RECORD, _Record(there)))
        except OSError as error:
            _say_unkept(self._folder, error.strerror or str(error))

    def _is_there(self, name: str) -> bool:
        return (self._folder / name).exists()


def forget_hashes(folder: Path) -> None:
    """Have every file of a package read and hashed anew. Raises PackageError."""
    path = folder / HASHES_NAME
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise PackageError(
            f"{path}: cannot be removed ({error.strerror}), so files would not be hashed anew; "
            "remove it as a user who may write there"
        ) from error


def _read(folder: Path) -> Mapping[str, KnownHash]:
    try:
        record, _ = read_sealed(folder / HASHES_NAME, _RECORD, FORMAT, "files are hashed anew")
    except FileNotFoundError:
        return {}
    except (PackageError, OSError) as error:
        logger.warning("%s", error)
        return {}
    return record.files


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(
        status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
    )


def _sha256(descriptor: int, advance: Callable[[int], object]) -> str:
    """The hash of an open file's content; other threads run meanwhile."""
    digest = hashlib.sha256()
    piece = bytearray(_PIECE)
    view = memoryview(piece)
    while count := os.readv(descriptor, [piece]):
        digest.update(view[:count])
        advance(count)
    return digest.hexdigest()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which no reader needs. A file system without locks has none to hold:
    of two processes that write at once there, one may lose hashes, which are then found again.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@cache
def _say_unkept(folder: Path, reason: str) -> None:
    """Once in a process."""
    logger.warning(
        "%s: hashes cannot be kept there (%s), so files are read and hashed at every start",
        folder,
        reason,
    )

"""The packs of a model, listed from disk at every call.

A pack can be added or removed while a server runs. A listing looks at the folder of packs and at
the inode, time and size of each pack's record; only the records that changed are read.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from runtime.errors import PackageError
from runtime.package import inversion, pack
from runtime.package.inversion import Inversion, read_inversion, word_fault
from runtime.package.manifest import ModelPackage
from runtime.package.pack import LoraPack, fit_fault, read_pack

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]
"""Inode, time and size of a record: a pack in another's place has another inode."""

_PackT = TypeVar("_PackT")


class _Folder(Generic[_PackT]):
    """The packs of one kind in a folder. Threads may share one."""

    def __init__(self, folder: Path, record: str, opened: Callable[[Path], _PackT | None]) -> None:
        """`record` is the name of each pack's record; `opened` answers None, and logs the reason,
        for a pack that is to be left out. Nothing is read yet.
        """
        self._folder = folder
        self._record = record
        self._opened = opened
        self._read: dict[Path, tuple[_Stamp, _PackT | None]] = {}

    def packs(self) -> tuple[_PackT, ...]:
        """The packs on disk now, by name."""
        known = self._read
        # A dictionary of its own for every listing: another thread sees one or the other.
        self._read = {
            path: known[path]
            if known.get(path, (None,))[0] == stamp
            else (stamp, self._opened(path))
            for path, stamp in self._listed()
        }
        return tuple(found for _, found in self._read.values() if found is not None)

    def _listed(self) -> Iterator[tuple[Path, _Stamp]]:
        """The folders of packs with their stamps. A pack that is being made has a dotted name."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith("."):
                continue
            try:
                status = (path / self._record).stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            yield path, (status.st_ino, status.st_mtime_ns, status.st_size)


class LoraShelf:
    """The LoRA packs of one model package. Threads may share a shelf."""

    def __init__(self, package: ModelPackage) -> None:
        """Nothing is read yet."""
        self._package = package
        self._folder = _Folder(package.path / pack.FOLDER, pack.PACK_NAME, self._open)

    def packs(self) -> tuple[LoraPack, ...]:
        """The packs on disk now, by id. A pack that is damaged, or no longer fits the model, is
        logged and left out."""
        return self._folder.packs()

    def _open(self, path: Path) -> LoraPack | None:
        try:
            found = read_pack(path)
            fault = fit_fault(found.record, self._package.manifest)
            if fault is None and found.id != path.name:
                fault = f"{path}: the pack in it is called {found.id}; rename the folder back"
        except FileNotFoundError:  # removed since it was listed
            return None
        except PackageError as error:
            fault = str(error)
        if fault:
            logger.warning("a LoRA pack is left out: %s", fault)
            return None
        return found


class InversionShelf:
    """The textual inversions of one model package. Threads may share a shelf."""

    def __init__(self, package: ModelPackage) -> None:
        """Nothing is read yet."""
        self._package = package
        self._folder = _Folder(package.path / inversion.FOLDER, inversion.RECORD_NAME, self._open)

    def inversions(self) -> tuple[Inversion, ...]:
        """The inversions on disk now, by name. Whatever is damaged, or no longer fits the model,
        is logged and left out."""
        return self._folder.packs()

    def _open(self, path: Path) -> Inversion | None:
        try:
            found = read_inversion(path)
            fault = word_fault(found.word, self._package.manifest)
        except FileNotFoundError:  # removed since it was listed
            return None
        except PackageError as error:
            fault = str(error)
        if fault:
            logger.warning("an embedding is left out: %s", fault)
            return None
        return found

"""The LoRA packs of a model, listed from disk at every call.

A pack can be added or removed while a server runs. A listing looks at the folder of packs and at
the inode, time and size of each `pack.json`; only the records that changed are read.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import PackageError
from runtime.package.manifest import ModelPackage
from runtime.package.pack import FOLDER, PACK_NAME, LoraPack, fit_fault, read_pack

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]
"""Inode, time and size of a record: a pack in another's place has another inode."""


class LoraShelf:
    """The packs of one model package. Threads may share a shelf."""

    def __init__(self, package: ModelPackage) -> None:
        """Nothing is read yet."""
        self._package = package
        self._read: dict[Path, tuple[_Stamp, LoraPack | None]] = {}

    def packs(self) -> tuple[LoraPack, ...]:
        """The packs on disk now, by id. A pack that is damaged, or no longer fits the model, is
        logged and left out."""
        known = self._read
        # A dictionary of its own for every listing: another thread sees one or the other.
        self._read = {
            path: known[path] if known.get(path, (None,))[0] == stamp else (stamp, self._open(path))
            for path, stamp in _listed(self._package.path / FOLDER)
        }
        return tuple(pack for _, pack in self._read.values() if pack is not None)

    def _open(self, path: Path) -> LoraPack | None:
        try:
            pack = read_pack(path)
            fault = fit_fault(pack.record, self._package.manifest)
            if fault is None and pack.id != path.name:
                fault = f"{path}: the pack in it is called {pack.id}; rename the folder back"
        except FileNotFoundError:  # removed since it was listed
            return None
        except PackageError as error:
            fault = str(error)
        if fault:
            logger.warning("a LoRA pack is left out: %s", fault)
            return None
        return pack


def _listed(folder: Path) -> Iterator[tuple[Path, _Stamp]]:
    """The folders of packs with their stamps. A pack that is being made has a dotted name."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        try:
            status = (path / PACK_NAME).stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        yield path, (status.st_ino, status.st_mtime_ns, status.st_size)

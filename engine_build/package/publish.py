"""Puts a package in its place in one step, so that half of one is never seen."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from runtime.errors import BuildError
from runtime.files import put_in_place, sync


@contextlib.contextmanager
def staged(engines: Path, name: str, *, replace: bool) -> Iterator[Path]:
    """An empty folder to build in, which becomes `engines/name` when the block ends well.

    Whatever ends the block otherwise, be it SIGKILL, leaves at most a folder whose name begins with
    a dot, which no reader takes for a package and the next build of that name removes. Raises
    BuildError when the name is taken, or when another build of that name is running.
    """
    engines.mkdir(parents=True, exist_ok=True)
    target = engines / name
    staging = engines / f".{name}.building"
    retired = engines / f".{name}.replaced"
    with locked(engines / f".{name}.lock", f"{name}: another build of it is running"):
        # A build that was killed while it put a package in another's place.
        if retired.exists() and not target.exists():
            retired.rename(target)
        shutil.rmtree(retired, ignore_errors=True)
        if not replace:
            refuse_taken(engines, name)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            yield staging
            # Beforehand, so that the name is without a package for no longer than two renames take.
            sync(staging)
            if target.exists():
                target.rename(retired)
            put_in_place(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def refuse_taken(engines: Path, name: str) -> None:
    """Raise BuildError if there is such a package already."""
    if (engines / name).exists():
        raise BuildError(f"{engines / name}: already there; build it anew with --replace")


@contextlib.contextmanager
def locked(path: Path, taken: str) -> Iterator[None]:
    """Hold a lock that ends with the process, however that ends.

    Raises BuildError that says `taken` where another process has it.
    """
    lock = _acquire(path)
    if lock is None:
        raise BuildError(f"{taken}; wait for it to end")
    with lock:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _acquire(path: Path) -> TextIO | None:
    while True:
        lock = path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        # The build that held it may have ended and unlinked the file since it was opened.
        if os.fstat(lock.fileno()).st_nlink:
            return lock
        lock.close()

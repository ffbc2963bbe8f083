"""Packages of tiny models, built once for every test run that builds them of the same code.

Building one takes most of a minute. What it follows from is all in its key: the source's bytes, the
choices, and every module that a build imports, with the versions that it is pinned to. Pytest's
cache folder holds them, `pytest --cache-clear` drops them, and a clean checkout has none.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from engine_build.package.build import BuildRequest, build_package
from tests.tiny.build_code import build_code

KEPT = 24
"""How many are kept: the tiny ones of a few states of the code."""


def _build(request: BuildRequest) -> None:
    build_package(request, show_progress=False)


class KeptPackages:
    """A folder of them. Processes may share it."""

    def __init__(self, folder: Path, builder: Callable[[BuildRequest], object] = _build) -> None:
        """The folder is made when it is missing; `builder` makes what is not in it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._builder = builder

    def build(self, request: BuildRequest) -> None:
        """Build a package, or copy what was built of the same before."""
        package = self._folder / self._key(request)
        with FileLock(f"{package}.lock"):
            if not package.is_dir():
                self._builder(request)
                unfinished = package.with_name(f".{package.name}")
                shutil.copytree(request.engines / request.name, unfinished, dirs_exist_ok=True)
                unfinished.rename(package)
                self._forget()
        package.touch()
        if not (request.engines / request.name).is_dir():
            shutil.copytree(package, request.engines / request.name)

    def _key(self, request: BuildRequest) -> str:
        source = Path(request.source)
        digest = hashlib.sha256(build_code())
        digest.update(repr((request.name, request.choices)).encode())
        for path in sorted(each for each in source.rglob("*") if each.is_file()):
            _add(digest, path, source)
        return digest.hexdigest()[:32]

    def _forget(self) -> None:
        packages = [path for path in self._folder.iterdir() if path.is_dir()]
        packages.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in packages[KEPT:]:
            shutil.rmtree(path)


def _add(digest: "hashlib._Hash", path: Path, root: Path) -> None:
    content = path.read_bytes()
    digest.update(f"{path.relative_to(root)} {len(content)} ".encode())
    digest.update(content)

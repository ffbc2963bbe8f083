"""The code that a build of a package runs, as a digest: what is kept of builds is kept by it."""

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp

from tests.places import ROOT


@cache
def build_code() -> bytes:
    """The digest of every module that a build imports, and of the versions that it is pinned to."""
    digest = hashlib.sha256()
    for path in (ROOT / "constraints.txt", *sorted(_modules())):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)} {len(content)} ".encode())
        digest.update(content)
    return digest.digest()


def _modules() -> Iterator[Path]:
    """The files of all that a build imports of this repository, itself among them."""
    graph = grimp.build_graph("engine_build", "runtime", cache_dir=None)
    build = "engine_build.package.build"
    for module in (build, *graph.find_upstream_modules(build)):
        path = ROOT / module.replace(".", "/")
        yield path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

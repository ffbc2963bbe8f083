"""Runs a module as in an environment of the base dependencies alone, with the modules of every
other distribution missing: `python -m tests.serving_environment MODULE ARGUMENT...`."""

import runpy
import sys
import tomllib
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import ModuleType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
OURS = frozenset({"api", "engine_build", "runtime", "tests"})


class Absent(MetaPathFinder):
    """Finds none of the modules of these names, wherever they are installed."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def absent_modules() -> frozenset[str]:
    """The installed modules that no base dependency of pyproject.toml brings, at any depth."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = _closure(project["dependencies"])
    return frozenset(
        module
        for module, owners in packages_distributions().items()
        if module not in OURS and brought.isdisjoint(map(canonicalize_name, owners))
    )


def _closure(requirements: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and name not in found:
            found.add(name)
            try:
                waiting += requires(name) or []
            except PackageNotFoundError:
                continue  # Not installed here, so there is nothing of it to find.
    return found


def main() -> None:
    """Hide the modules, also those that are loaded already, and run."""
    absent = absent_modules()
    for name in list(sys.modules):
        if name.partition(".")[0] in absent:
            del sys.modules[name]
    sys.meta_path.insert(0, Absent(absent))
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()

"""The layers of the folders, and that a forbidden import is refused wherever it is added."""

import shutil
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import grimp
import pytest

from tests.places import ROOT

ROOMS = ("runtime", "api", "engine_build")
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
    "importlinter"
]["contracts"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    # The report wraps long lines at the width of the terminal.
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--verbose"]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "400", "PATH": "/usr/bin:/bin"},
    )


def forbidden_pairs() -> list[tuple[str, str]]:
    """Every (importer, imported) of the contracts, as names of packages or modules."""
    pairs = set()
    for contract in CONTRACTS:
        if contract["type"] == "forbidden":
            pairs |= {
                (source, forbidden)
                for source in contract["source_modules"]
                for forbidden in contract["forbidden_modules"]
            }
        elif contract["type"] == "independence":
            pairs |= set(permutations(contract["modules"], 2))
        else:
            pairs |= _layer_pairs(contract)
    return sorted(pairs)


def _layer_pairs(contract: dict[str, Any]) -> set[tuple[str, str]]:
    (container,) = contract["containers"]
    rows = [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]
    pairs = {
        (f"{container}.{lower}", f"{container}.{higher}")
        for above, below in combinations(rows, 2)
        for higher in above
        for lower in below
    }
    for row in rows:
        beside = permutations(row, 2)
        pairs |= {(f"{container}.{one}", f"{container}.{other}") for one, other in beside}
    return pairs


def _file(root: Path, module: str) -> Path:
    """A module's file; of a package, the last of its modules."""
    path = root / module.replace(".", "/")
    return path.with_suffix(".py") if not path.is_dir() else max(path.rglob("*.py"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_a_forbidden_import_is_refused_wherever_it_is_added(copy: Path) -> None:
    pairs = forbidden_pairs()
    assert len(pairs) > 60
    for importer, imported in pairs:
        with _file(copy, importer).open("a") as stream:
            stream.write(f"\nimport {imported}\n")
    done = lint(copy)
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    unnoticed = [
        f"{importer} imports {imported}"
        for importer, imported in pairs
        if f"{importer} is not allowed to import {imported}" not in said
    ]
    assert unnoticed == []


def test_one_forbidden_import_is_enough(copy: Path) -> None:
    with (copy / "runtime/package/manifest.py").open("a") as stream:
        stream.write("\ndef late() -> None:\n    import runtime.draw.generate\n")
    done = lint(copy)
    assert done.returncode == 1
    assert "runtime.package.manifest -> runtime.draw.generate" in done.stdout


def test_every_folder_of_the_runtime_and_the_build_stage_has_a_layer(copy: Path) -> None:
    (copy / "runtime/attic").mkdir()
    (copy / "runtime/attic/__init__.py").touch()
    done = lint(copy)
    assert done.returncode == 1
    assert "runtime.attic" in done.stdout


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even for a type, or late, in a function."""
    graph = grimp.build_graph(*ROOMS, cache_dir=None)
    order = TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    )
    order.prepare()  # Raises CycleError, which names the circle.

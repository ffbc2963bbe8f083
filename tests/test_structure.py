"""Structural rules that no import linter can state."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from runtime.plan.families import FAMILIES
from tests.places import ROOT

BUILD_ONLY = {"torch", "diffusers", "transformers", "onnx", "onnxscript", "onnx_ir"}

LOAD_EVERYTHING = """
import importlib, json, pkgutil, sys
import runtime, api
for package in (runtime, api):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def modules(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def test_serving_loads_nothing_of_the_build_stage() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD_EVERYTHING],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = set(json.loads(done.stdout))
    assert {"runtime", "api"} <= loaded
    assert not loaded & BUILD_ONLY


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports, and what it imports from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_benchmarks_import_nothing_of_the_tests() -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for path in modules("benchmarks")
        if (names := {name for name in imports_of(path) if name.partition(".")[0] == "tests"})
    }
    assert found == {}


def test_families_do_not_know_each_other() -> None:
    names = {family.name for family in FAMILIES}
    for folder in (ROOT / "runtime/plan/families", ROOT / "engine_build/package/export"):
        for name in names:
            text = (folder / f"{name}.py").read_text()
            imported = {
                node.module.rpartition(".")[2]
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.ImportFrom) and node.module
            }
            assert not imported & (names - {name}), f"{folder.name}/{name}.py"


@pytest.mark.parametrize(
    "path", modules("runtime", "api", "engine_build"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_families_are_told_apart_in_their_own_files_only(path: Path) -> None:
    families = {"sdxl", "flux", "chroma", "zimage"}
    if path.parent.name in ("families", "export") or path.stem in families:
        return
    strings = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not strings & families


def test_every_package_is_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for room in ("runtime", "api", "engine_build")
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert listed == found | {"engines"}  # Of which the wheel has the demo model.


@pytest.mark.parametrize(
    "path",
    modules("runtime", "api", "engine_build", "benchmarks", "scripts", "examples", "tests"),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_docstring_says_its_subject_first(path: Path) -> None:
    strings = [
        node.value.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    begins = ("What ", "Where ", "Whether ")
    riddles = [text for text in strings if text.lstrip().startswith(begins)]
    # The HTTP contract shows some docstrings, and is changed for its own sake alone.
    contract = (ROOT / "docs" / "openapi.json").read_text()
    assert [text for text in riddles if json.dumps(text) not in contract] == []

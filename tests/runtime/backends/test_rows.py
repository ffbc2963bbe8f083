"""The rows of the backends, and that nothing else names one."""

import ast
import importlib.metadata
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from pkgutil import resolve_name
from typing import get_args

import pytest

from engine_build.target.compiler import COMPILERS, CompilerRow
from runtime.backends import rows
from runtime.backends.rows import BACKENDS, CPU_BACKENDS, TARGET_BACKENDS, row_of
from runtime.errors import BackendError
from runtime.package.backend_name import BackendName
from tests.places import ROOT

NAMES = {row.name for row in BACKENDS}

FOLDERS = ("tensorrt", "onnxruntime", "onnxruntime_cuda", "openvino")
"""Each backend's own, at run time and in the build stage."""

ELSEWHERE = {
    "runtime/backends/rows.py": "the rows",
    "engine_build/target/compiler.py": "the rows of the compilers",
    "runtime/package/backend_name.py": "a literal type, which mypy and pydantic read",
    "runtime/package/target.py": "targets that an older version of that backend compiled",
    "engine_build/commands/compile.py": "the words of --help",
    "engine_build/commands/inspect.py": "the words of --help",
    "engine_build/commands/verify.py": "the words of --help",
}


def modules() -> list[Path]:
    rooms = ("runtime", "api", "engine_build", "scripts")
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def test_a_backend_is_named_in_its_folder_and_its_row_only() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in modules()
        if path.parent.name not in FOLDERS
        and any(mentions(text, name) for text in constants(path.read_text()) for name in NAMES)
    }
    assert found == set(ELSEWHERE)


def constants(source: str) -> list[str]:
    """The strings of a module that are no docstrings."""
    tree = ast.parse(source)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
    ]


def mentions(text: str, name: str) -> bool:
    return text == name or f"--backend {name}" in text or f" {name}-" in text


def test_every_backend_has_one_row() -> None:
    assert [row.name for row in BACKENDS] == list(get_args(BackendName))
    assert list(COMPILERS) == [row.name for row in TARGET_BACKENDS]
    assert [row.name for row in BACKENDS if row.cpu_precisions] == [
        row.name for row in CPU_BACKENDS
    ]


def test_a_version_is_the_installed_one() -> None:
    rtx = row_of("tensorrt-rtx")
    assert rtx.installed_version() == importlib.metadata.version("tensorrt-rtx")


def test_what_brings_a_backend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(rows, "version", missing)
    with pytest.raises(BackendError, match="pip install onnxruntime-gpu"):
        row_of("onnxruntime-cuda").installed_version()
    with pytest.raises(BackendError, match=r"^tensorrt is not installed; .*pip install tensorrt$"):
        row_of("tensorrt").installed_version()


def test_an_unknown_backend_is_told_which_there_are() -> None:
    with pytest.raises(BackendError, match="no backend 'other'; known are tensorrt, "):
        row_of("other")


def test_gpus_that_a_backend_does_not_run_on_are_refused_with_those_that_do() -> None:
    rtx = row_of("tensorrt-rtx")
    assert rtx.gpu_fault("sm_89") is None
    fault = rtx.gpu_fault("sm_90") or ""
    assert fault.endswith("take --backend tensorrt or onnxruntime-cuda")
    assert row_of("tensorrt").gpu_fault("sm_90") is None


@pytest.mark.parametrize("row", BACKENDS, ids=lambda row: row.name)
def test_a_row_names_a_function_of_its_folder(row: rows.BackendRow) -> None:
    assert callable(resolve_name(row.opener))


@pytest.mark.parametrize("row", COMPILERS.values(), ids=lambda row: row.name)
def test_a_compilers_row_names_functions_of_its_folder(row: CompilerRow) -> None:
    assert callable(resolve_name(row.compiler))
    assert row.fixed is None or callable(row.fixed)

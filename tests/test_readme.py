"""The README's `engine-build` lines in the environment that `make serve` installs: each works, or
says in one line what it lacks."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from engine_build.cli import BUILD_LIBRARIES, COMMANDS
from tests.serving_environment import ROOT, absent_modules

PROGRAM = ".venv/bin/engine-build "
LINES = [
    line.strip().removeprefix(PROGRAM)
    for line in (ROOT / "README.md").read_text().splitlines()
    if line.startswith(f"    {PROGRAM}")
]
OF_THE_DEMO = [line for line in LINES if "--model demo" in line]
# A preset asks the Hub before all else, and no test needs the network.
OTHERS = [line for line in LINES if line not in OF_THE_DEMO and "--preset" not in line]
INSTALL = 'this needs the build stage: pip install -c constraints.txt -e ".[build]"'


def engine_build(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.serving_environment", "engine_build", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_serving_environment_has_no_pytorch() -> None:
    absent = absent_modules()
    assert {"torch", "diffusers", "transformers", "onnxscript", "pytest"} <= absent
    assert absent.isdisjoint({"numpy", "onnxruntime", "fastapi", "starlette", "onnx_ir"})


def test_the_libraries_of_a_build_are_those_of_its_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["build"]
    names = {re.split(r"[<>=!~ ;\[]", line)[0].replace("-", "_") for line in extra}
    assert names == BUILD_LIBRARIES


def test_the_lines_about_loras_of_the_demo_work_in_their_order(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "engines" / "demo", tmp_path / "demo")
    assert [line.split()[1] for line in OF_THE_DEMO] == ["add", "list", "remove"]
    for line in OF_THE_DEMO:
        ended = engine_build(*shlex.split(line, comments=True), "--engines", str(tmp_path))
        assert (ended.returncode, ended.stderr) == (0, ""), line
        assert "mine" in ended.stdout


@pytest.mark.parametrize("line", OTHERS)
def test_every_other_line_fails_in_one_line(line: str, tmp_path: Path) -> None:
    """Their files and their package `mine` are not there."""
    ended = engine_build(*shlex.split(line, comments=True), "--engines", str(tmp_path))
    assert ended.returncode == 1
    assert re.fullmatch(r"engine-build: .+\n", ended.stderr)


def test_a_build_says_what_to_install(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    ended = engine_build("build", str(source), "--name", "mine", "--engines", str(tmp_path))
    assert ended.returncode == 1
    assert re.fullmatch(
        rf"engine-build: \w+ is not installed; {re.escape(INSTALL)}\n", ended.stderr
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_needs_no_library_of_a_build(command: str) -> None:
    ended = engine_build(command, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")

"""The wheel of the checkout's tracked files, and an environment outside of the checkout with it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.api.live import clean_environment
from tests.places import ROOT

SHIPPED = ("api", "runtime", "engine_build", "engines/demo")
_BESIDE = ("pyproject.toml", "README.md", "LICENSE", "examples/demo_model/NOTICE")


def tracked_files(*paths: str) -> list[str]:
    """The files that git knows of these files and folders, by their paths in the checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", *paths]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name]


def copy_source(folder: Path) -> None:
    """Copy the tracked files that the wheel is made of: a build leaves its own beside them."""
    for name in tracked_files(*SHIPPED, *_BESIDE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of a source folder with this environment's setuptools; asks no network."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"]
    _run([*command, "--wheel-dir", str(folder), str(source)], folder)
    (wheel,) = folder.glob("calotype-*.whl")
    return wheel


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with the wheel, and with the libraries of this one, but not its Calotype."""

    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of its processes: none that leads to the checkout."""
        return {name: text for name, text in clean_environment().items() if name != "PYTHONPATH"}

    def program(self, name: str) -> str:
        """The path of a command in it."""
        return str(self.folder / "bin" / name)

    def run(self, name: str, *arguments: str, cwd: Path) -> str:
        """All that a command prints, which must end well."""
        return _run([self.program(name), *arguments], cwd, self.environment)


def install(wheel: Path, folder: Path) -> Installed:
    """Make an environment and put the wheel into it."""
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], folder.parent)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    _run([*pip, str(wheel)], folder.parent)
    own, shared = (
        sysconfig.get_path("purelib", vars={"base": str(base), "platbase": str(base)})
        for base in (folder, sys.prefix)
    )
    # Folders that a .pth names have no .pth read: so there is no editable Calotype of theirs.
    Path(own, "libraries.pth").write_text(f"{shared}{os.linesep}")
    return Installed(folder)


def _run(command: list[str], cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    ended = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{command}\n{ended.stderr}"
    return ended.stdout

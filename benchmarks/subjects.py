"""Models that pictures are timed with: a package each, and a diffusers folder of the same weights.

Two of them: the demo, and an SDXL of 33 million parameters with random weights that draws 64
latents a side. What is missing of them is made once and kept in a work folder.

    python -m benchmarks.subjects sdxl-33m --work FOLDER

makes it beforehand, and says where it lies.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.server_process import ROOT, child_environment
from runtime.backends.rows import CPU
from runtime.backends.wishes import WISHES, BackendWish

DEMO_ENGINES = ROOT / "engines"
DEFAULT_WORK = Path.home() / ".cache" / "calotype-benchmarks"


@dataclass(frozen=True, slots=True)
class Drawn:
    """Picture as a subject is asked for it."""

    size: int
    """Pixels of a side."""
    steps: int


@dataclass(frozen=True, slots=True)
class Subject:
    """Model to draw with, on disk."""

    name: str
    engines: Path
    """Folder of packages that has this one."""
    source: Path
    """diffusers folder of the same weights."""
    picture: Drawn
    """The usual picture."""
    mix: tuple[Drawn, ...]
    """Pictures of a mixed load."""
    guidance: float


def subject(name: str, work: Path) -> Subject:
    """A subject, with what is missing of it made in `work`."""
    return _MAKERS[name](work.resolve())


def _demo(work: Path) -> Subject:
    from runtime.package.manifest import read_package

    package = read_package(DEMO_ENGINES, "demo")
    # The digest tells a demo that was trained anew from the one whose folder is kept.
    source = work / "sources" / f"demo-{package.digest[:12]}"

    def write(folder: Path) -> None:
        from benchmarks.demo_source import write_demo_source

        write_demo_source(package, folder)

    return Subject(
        "demo",
        DEMO_ENGINES,
        _kept(source, write),
        Drawn(128, 20),
        (Drawn(128, 8), Drawn(128, 20), Drawn(192, 12), Drawn(128, 30), Drawn(256, 10)),
        guidance=4.0,
    )


def _sdxl_33m(work: Path) -> Subject:
    name = "sdxl-33m"

    def write(folder: Path) -> None:
        from benchmarks.tiny.sdxl_33m import save_sdxl_33m

        save_sdxl_33m(folder)

    source, engines = _kept(work / "sources" / name, write), work / "engines"
    if not (engines / name / "manifest.json").is_file():
        command = [sys.executable, "-m", "engine_build", "build", str(source), "--name", name]
        command += ["--engines", str(engines), "--default-size", "512x512"]
        subprocess.run(command, check=True, env=child_environment())
    mix = (Drawn(512, 4), Drawn(512, 8), Drawn(384, 6), Drawn(256, 10))
    return Subject(name, engines, source, Drawn(512, 4), mix, guidance=5.0)


def optimum_folders(made: Subject) -> tuple[Path, Path]:
    """diffusers folder that transformers 4 reads too, and the place for optimum's export of it."""

    def write(folder: Path) -> None:
        from benchmarks.older_folder import write_older_folder

        write_older_folder(made.source, folder)

    older = _kept(made.source.with_name(f"{made.source.name}-older"), write)
    return older, made.source.with_name(f"{made.source.name}-optimum")


_MAKERS: Mapping[str, Callable[[Path], Subject]] = {"demo": _demo, "sdxl-33m": _sdxl_33m}
SUBJECTS = tuple(_MAKERS)


def _kept(folder: Path, write: Callable[[Path], None]) -> Path:
    """A folder that is there whole, written beside its place where it was not there."""
    if not folder.is_dir():
        unfinished = folder.with_name(f".{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        unfinished.rename(folder)
    return folder


def add_subject_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that name a subject and its work folder."""
    flags.add_argument("--model", choices=SUBJECTS, default="demo", help="default: demo")
    flags.add_argument(
        "--work",
        type=Path,
        default=DEFAULT_WORK,
        metavar="FOLDER",
        help=f"what is made for it is kept here; default: {DEFAULT_WORK}",
    )


def add_backends_flag(flags: argparse.ArgumentParser) -> None:
    """Add the flag that names our backends, read by `backends`."""
    flags.add_argument(
        "--backend",
        action="append",
        choices=WISHES,
        help=f"of ours; may be given several times; default: {CPU}",
    )


def backends(arguments: argparse.Namespace) -> list[BackendWish]:
    """Our backends that take turns."""
    return arguments.backend or [CPU]


def main() -> None:
    """Make a subject, and print its folders."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("model", choices=SUBJECTS)
    flags.add_argument("--work", type=Path, default=DEFAULT_WORK, metavar="FOLDER")
    arguments = flags.parse_args()
    made = subject(arguments.model, arguments.work)
    print(f"package: {made.engines / made.name}\ndiffusers folder: {made.source}")


if __name__ == "__main__":
    main()

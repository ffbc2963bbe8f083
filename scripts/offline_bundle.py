"""Packs the wheels that a machine with no network needs, in parts of a given size.

Here, where there is a network:

    python scripts/offline_bundle.py --extras cuda,build,dev --python 3.12 --without torch,numpy \\
        --output bundle

Carry the folder over by whatever way there is, in however many turns, and there:

    python bundle/install.py

What the other machine has already is named in --without: neither it nor what only it needs is
packed, and pip finds it there. The code itself travels as it does otherwise.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
INSTALLER = Path(__file__).with_name("offline_install.py")
MANIFEST = "bundle.json"
MEBIBYTE = 1024 * 1024
BLOCK = MEBIBYTE

# Wheels are named for the oldest system they run on, and pip matches each name by itself.
NEWEST_GLIBC = 39
OLDEST_GLIBC = 17
OLDER_NAMES = ("manylinux2014", "manylinux2010", "manylinux1")

# What comes before a version, an extra or a marker in a requirement.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class BundleError(Exception):
    """Why there is no bundle: the thing, and the remedy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    options = parser().parse_args(arguments)
    try:
        requirements = wanted(options)
        with tempfile.TemporaryDirectory() as folder:
            wheels = download(requirements, Path(folder), options)
            write_bundle(wheels, requirements, options)
    except BundleError as error:
        print(f"offline_bundle: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Its flags."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--extras", type=names, default=[], metavar="A,B", help="extras of Calotype")
    made.add_argument(
        "--packages",
        nargs="+",
        default=[],
        metavar="REQUIREMENT",
        help="these instead of what Calotype needs, as pip takes them",
    )
    made.add_argument(
        "--without",
        type=names,
        default=[],
        metavar="A,B==1.2",
        help="packages that the other machine has already, in the pinned version or in this one",
    )
    made.add_argument(
        "--python",
        metavar="3.12",
        default=f"{sys.version_info[0]}.{sys.version_info[1]}",
        help="the other machine's Python (default: %(default)s, this one's)",
    )
    made.add_argument(
        "--machine", metavar="x86_64", default="x86_64", help="its processor (default: %(default)s)"
    )
    made.add_argument(
        "--constraint",
        type=Path,
        default=ROOT / "constraints.txt",
        metavar="FILE",
        help="exact versions (default: %(default)s)",
    )
    made.add_argument(
        "--find-links", action="append", default=[], metavar="FOLDER", help="more wheels, as of pip"
    )
    made.add_argument("--no-index", action="store_true", help="take wheels from --find-links alone")
    made.add_argument(
        "--part-size",
        type=float,
        default=60,
        metavar="MIB",
        help="the largest part, in MiB (default: %(default)s)",
    )
    made.add_argument(
        "--output",
        type=Path,
        default=Path("bundle"),
        metavar="FOLDER",
        help="a folder that is not there yet (default: %(default)s)",
    )
    return made


def names(text: str) -> list[str]:
    """A list as the flags take it."""
    return [part.strip() for part in text.split(",") if part.strip()]


def wanted(options: argparse.Namespace) -> list[str]:
    """What pip is asked for. Raises BundleError."""
    if options.part_size <= 0:
        raise BundleError(f"--part-size {options.part_size:g}: expected more than 0 MiB")
    if options.output.exists():
        raise BundleError(f"{options.output}: is there already; remove it, or choose --output")
    if options.packages:
        return list(options.packages)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for name in options.extras:
        if name not in extras:
            raise BundleError(f"--extras {name}: unknown; Calotype has {', '.join(extras)}")
    requirements = [
        *project["dependencies"],
        *(each for name in options.extras for each in extras[name]),
    ]
    if "cuda" in options.extras:
        # Both bring one module: the one for GPUs must stand alone.
        requirements = [each for each in requirements if name_of(each) != "onnxruntime"]
    return requirements


def download(requirements: list[str], folder: Path, options: argparse.Namespace) -> list[Path]:
    """Let pip download what the other machine needs; the wheels. Raises BundleError."""
    wheels, stand_ins = folder / "wheels", folder / "stand_ins"
    wheels.mkdir()
    stand_ins.mkdir()
    constraints = options.constraint.read_text().splitlines()
    pinned = {name_of(line): line.partition("==")[2].strip() for line in constraints}
    there = {}
    for name, version in map(told, options.without):
        there[name] = version or pinned.get(name, "")
        if not there[name]:
            raise BundleError(
                f"--without {name}: {options.constraint} pins no version of it; "
                f"name the other machine's: --without {name}==VERSION"
            )
        there[name] = f"{there[name].partition('+')[0]}+there"
        stand_in(name, there[name], stand_ins)
    exact = [line for line in constraints if name_of(line) not in there]
    exact += [f"{name}=={version}" for name, version in there.items()]
    kept = folder / "constraints.txt"
    kept.write_text("\n".join(exact))
    links = [argument for each in options.find_links for argument in ("--find-links", each)]
    command = [sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--dest", wheels]
    command += ["--constraint", kept, "--find-links", stand_ins, *links, *machine(options)]
    command += ["--no-index"] if options.no_index else []
    done = subprocess.run([*command, *requirements], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        faults = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        detail = faults[0].removeprefix("ERROR: ") if faults else done.stderr.strip()
        raise BundleError(
            f"pip cannot have it all: {detail}; is there a wheel for Python {options.python} on "
            f"{options.machine}? What the other machine has can be left out with --without"
        )
    return [path for path in sorted(wheels.iterdir()) if name_of(path.name) not in there]


def machine(options: argparse.Namespace) -> list[str]:
    """The other machine, as pip takes it: a name for every system that its wheels may be for."""
    names = [f"manylinux_2_{minor}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)]
    platforms = [f"{name}_{options.machine}" for name in (*names, *OLDER_NAMES, "linux")]
    flags = [flag for each in platforms for flag in ("--platform", each)]
    return [*flags, "--python-version", options.python, "--implementation", "cp"]


def told(text: str) -> tuple[str, str]:
    """A package and its version, empty where none is said."""
    name, _, version = text.partition("==")
    return normalised(name), version.strip()


def stand_in(name: str, version: str, folder: Path) -> None:
    """An empty wheel in the place of a package that is there: pip then looks for none, nor for what
    only that one needs. Its local version puts it before every other of the same version."""
    stem = f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        info = f"{stem}.dist-info"
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr(f"{info}/RECORD", "")


def write_bundle(wheels: list[Path], requirements: list[str], options: argparse.Namespace) -> None:
    """Write parts, manifest and installer; the folder is there whole or not at all."""
    output: Path = options.output
    unfinished = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    part_size = max(1, int(options.part_size * MEBIBYTE))
    files, parts = cut(wheels, unfinished, part_size)
    manifest = {"requirements": requirements, "files": files, "parts": parts}
    (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    shutil.copyfile(INSTALLER, unfinished / "install.py")
    unfinished.rename(output)
    size = sum(part["size"] for part in parts)
    print(f"{output}: {len(files)} wheels, {size / MEBIBYTE:.1f} MiB in {len(parts)} parts")
    print(f"on the other machine: python {output.name}/install.py")


def cut(
    wheels: list[Path], folder: Path, part_size: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write the files one after the other into parts of one size; what is in the manifest of both.

    Both are listed in order, so that sizes alone say where a file begins.
    """
    files: list[dict[str, Any]] = []
    parts = Parts(folder, part_size)
    total = sum(path.stat().st_size for path in wheels)
    with tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024, desc="packing") as bar:
        for path in wheels:
            digest = hashlib.sha256()
            with path.open("rb") as stream:
                while block := stream.read(BLOCK):
                    digest.update(block)
                    parts.write(block)
                    bar.update(len(block))
            size = path.stat().st_size
            files.append({"name": path.name, "size": size, "sha256": digest.hexdigest()})
    return files, parts.finished()


class Parts:
    """Files of at most one size, written in order."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self._current = bytearray()
        self._written: list[dict[str, Any]] = []

    def write(self, block: bytes) -> None:
        """Add bytes, to as many parts as they take."""
        self._current += block
        while len(self._current) >= self._size:
            self._end(bytes(self._current[: self._size]))
            del self._current[: self._size]

    def finished(self) -> list[dict[str, Any]]:
        """End the last part; all of them."""
        if self._current:
            self._end(bytes(self._current))
            self._current.clear()
        return self._written

    def _end(self, content: bytes) -> None:
        name = f"part-{len(self._written) + 1:03}"
        (self._folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        self._written.append({"name": name, "size": len(content), "sha256": digest})


def name_of(text: str) -> str:
    """The package that a requirement, a line of constraints or a wheel's file name is of."""
    name = text.partition("-")[0] if text.endswith(".whl") else text
    match = _NAME.match(name)
    return normalised(match.group()) if match else ""


def normalised(name: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())

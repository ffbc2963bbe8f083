"""Packs everything that a machine with no network needs, in parts of a given size.

Run where there is a network. The bundle holds either wheels to install on the other machine:

    python -m scripts.offline_bundle --extras cuda,build,dev --python 3.12 --without torch,numpy \\
        --output bundle

    python bundle/install.py            # on the other machine

or the project with all that its check of a GPU needs, to be unpacked and run with no install:

    python -m scripts.offline_bundle --for sm_90 --project --packages --python 3.12 \\
        --there scripts/machines/pytorch_cuda13.txt --part-size 52 --output bundle

    python bundle/unpack.py FOLDER python -m scripts.gpu_check --seconds 120

Carry the folder over by any means, in as many turns as needed. Packages that the other machine has
already are named in --without or listed in the file of --there: neither these packages nor what
only they need is packed. With --project the other machine's own packages are used in whatever
version they are.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.device_code import DeviceCodeError, architecture_of
from scripts.offline_archive import Item, folder_items, project_items, wheel_items, write_archive
from scripts.offline_parts import MEBIBYTE, Parts, unfinished, write_manifest
from tests.tiny import packages as tiny

ROOT = Path(__file__).resolve().parent.parent
INSTALLER = Path(__file__).with_name("offline_install.py")
UNPACKER = Path(__file__).with_name("offline_unpack.py")
READER = Path(__file__).with_name("offline_reading.py")
"""Module that installer and unpacker import from their own folder."""
BLOCK = MEBIBYTE

CHECKING = {"pytest", "httpx"}
"""Packages of the extra `dev` that the check of a GPU needs."""

# A wheel is named for the oldest system it runs on, and pip matches each name by itself.
NEWEST_GLIBC = 39
OLDEST_GLIBC = 17
OLDER_NAMES = ("manylinux2014", "manylinux2010", "manylinux1")

# The name in a requirement, before a version, an extra or a marker.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class BundleError(Exception):
    """Reason why no bundle can be made: the thing, and the remedy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parser().parse_args(arguments)
    try:
        requirements = wanted(options)
        with tempfile.TemporaryDirectory() as folder:
            wheels = download(requirements, Path(folder), options)
            if options.project:
                write_to_unpack(wheels, Path(folder), options)
            else:
                write_bundle(wheels, requirements, options)
    except (BundleError, DeviceCodeError) as error:
        print(f"offline_bundle: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Parser of the command's flags."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--extras", type=names, default=[], metavar="A,B", help="extras of Calotype")
    made.add_argument(
        "--requirements",
        nargs="+",
        default=[],
        metavar="REQUIREMENT",
        help="requirements of pip to pack instead of those of Calotype",
    )
    made.add_argument(
        "--project",
        action="store_true",
        help="pack the project too; the bundle is unpacked there, not installed",
    )
    made.add_argument(
        "--packages",
        nargs="?",
        type=Path,
        const=True,
        metavar="FOLDER",
        help="pack model packages too: of a folder, or those of the tests for a GPU, built now",
    )
    made.add_argument(
        "--for",
        dest="gpu",
        metavar="sm_90",
        help="keep ONNX Runtime's device code for this GPU alone; with --project",
    )
    made.add_argument(
        "--without",
        type=names,
        default=[],
        metavar="A,B==1.2",
        help="packages that the other machine has already, in the pinned or the given version",
    )
    made.add_argument(
        "--there",
        type=Path,
        metavar="FILE",
        help="a file that lists such packages, one a line, as those in scripts/machines",
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
        "--find-links",
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder with more wheels",
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
    """Entries of a comma-separated flag."""
    return [part.strip() for part in text.split(",") if part.strip()]


def wanted(options: argparse.Namespace) -> list[str]:
    """Requirements for pip; checks the flags and adds the list of --there to --without.

    Raises BundleError, and DeviceCodeError when --for names no compute capability.
    """
    if options.part_size <= 0:
        raise BundleError(f"--part-size {options.part_size:g}: expected more than 0 MiB")
    if options.output.exists():
        raise BundleError(f"{options.output}: is there already; remove it, or choose --output")
    if not options.project and (options.packages or options.gpu):
        raise BundleError("--packages and --for go with --project")
    if options.gpu:
        architecture_of(options.gpu)
    options.without += listed(options.there) if options.there else []
    if options.requirements:
        return list(options.requirements)
    extras = options.extras or (["cuda", "build"] if options.project else [])
    requirements = of_calotype(extras, checking=options.project)
    if not options.project:
        return requirements
    there = {told(each)[0] for each in options.without}
    return [each for each in requirements if name_of(each) not in there]


def of_calotype(extras: list[str], *, checking: bool) -> list[str]:
    """Requirements of Calotype with extras, and with `checking` those of its tests for a GPU.

    Raises BundleError for an unknown extra.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"]
    for name in extras:
        if name not in known:
            raise BundleError(f"--extras {name}: unknown; Calotype has {', '.join(known)}")
    requirements = [*project["dependencies"], *(each for name in extras for each in known[name])]
    if checking:
        requirements += [each for each in known["dev"] if name_of(each) in CHECKING]
    if "cuda" in extras:
        # onnxruntime and onnxruntime-gpu bring the same module: the one for GPUs must stand alone.
        requirements = [each for each in requirements if name_of(each) != "onnxruntime"]
    return requirements


def listed(path: Path) -> list[str]:
    """Packages of a list file, one a line. Raises BundleError when it cannot be read."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise BundleError(f"--there {path}: {error.strerror}") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def download(requirements: list[str], folder: Path, options: argparse.Namespace) -> list[Path]:
    """Let pip download the wheels that the other machine needs; their paths. Raises BundleError."""
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
    command = [sys.executable, "-m", "pip", "download", "--only-binary=:all:"]
    command += ["--dest", str(wheels), "--constraint", str(kept), "--find-links", str(stand_ins)]
    command += [*links, *machine(options)]
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
    """Flags of pip that describe the other machine: every platform tag that its wheels may have."""
    names = [f"manylinux_2_{minor}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)]
    platforms = [f"{name}_{options.machine}" for name in (*names, *OLDER_NAMES, "linux")]
    flags = [flag for each in platforms for flag in ("--platform", each)]
    return [*flags, "--python-version", options.python, "--implementation", "cp"]


def told(text: str) -> tuple[str, str]:
    """Package and version of an entry of --without; the version is empty where none is given."""
    name, _, version = text.partition("==")
    return normalised(name), version.strip()


def stand_in(name: str, version: str, folder: Path) -> None:
    """Write an empty wheel in the place of a package that the other machine has.

    With this wheel pip downloads neither the package nor what only the package needs. The wheel's
    local version puts it before every other wheel of the same version.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        info = f"{stem}.dist-info"
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr(f"{info}/RECORD", "")


def write_bundle(wheels: list[Path], requirements: list[str], options: argparse.Namespace) -> None:
    """Write the wheels in parts, a manifest, and the script that installs the wheels."""
    with unfinished(options.output) as folder:
        files, parts = cut(wheels, folder, part_size(options))
        write_manifest(folder, {"requirements": requirements, "files": files, "parts": parts})
        shutil.copyfile(INSTALLER, folder / "install.py")
        shutil.copy(READER, folder)
    tell(options.output, f"{len(files)} wheels", parts)
    print(f"on the other machine: python {options.output.name}/install.py")


def write_to_unpack(wheels: list[Path], folder: Path, options: argparse.Namespace) -> None:
    """Write one archive of everything in parts, a manifest, and the script that unpacks it."""
    items = [*content(wheels, folder, options)]
    with unfinished(options.output) as output:
        parts = Parts(output, part_size(options))
        sizes = write_archive(items, parts)
        written = parts.finished()
        manifest = {
            "python": options.python,
            "gpu": options.gpu,
            "wheels": [path.name for path in wheels],
            "files": len(items),
            "bytes": sizes,
            "parts": written,
        }
        write_manifest(output, manifest)
        shutil.copyfile(UNPACKER, output / "unpack.py")
        shutil.copy(READER, output)
    tops = ", ".join(f"{name} {size / MEBIBYTE:.1f} MiB" for name, size in sizes.items())
    tell(options.output, f"{len(wheels)} wheels; unpacked at most {tops}", written)
    print(f"on the other machine: python {options.output.name}/unpack.py FOLDER COMMAND ...")


def content(wheels: list[Path], folder: Path, options: argparse.Namespace) -> Iterator[Item]:
    """Files to be unpacked on the other machine. Raises BundleError."""
    if options.gpu and "onnxruntime-gpu" not in map(name_of, (path.name for path in wheels)):
        raise BundleError(
            f"--for {options.gpu}: onnxruntime-gpu is not packed, whose device code it chooses; "
            "leave --for out, or onnxruntime-gpu out of --without and --there"
        )
    for wheel in wheels:
        is_runtime = name_of(wheel.name) == "onnxruntime-gpu"
        yield from wheel_items(wheel, options.gpu if is_runtime else None)
    yield from project_items()
    if options.packages is True:
        tiny.build(folder / "packages", tiny.missing(folder / "packages"))
        yield from folder_items(folder / "packages", "packages")
    elif options.packages:
        if not options.packages.is_dir():
            raise BundleError(f"--packages {options.packages}: there is no such folder")
        for path in sorted(options.packages.glob("*/manifest.json")):
            if '"external_folder": "' in path.read_text():
                raise BundleError(
                    f"--packages: the weights of {path.parent} lie elsewhere; build it without "
                    "--in-place"
                )
        yield from folder_items(options.packages, "packages")


def part_size(options: argparse.Namespace) -> int:
    """Size of a part in bytes, at least 1."""
    return max(1, int(options.part_size * MEBIBYTE))


def tell(output: Path, what: str, parts: list[dict[str, Any]]) -> None:
    """Print the bundle's folder, its content, its size and the number of parts."""
    size = sum(part["size"] for part in parts)
    print(f"{output}: {what}; {size / MEBIBYTE:.1f} MiB in {len(parts)} parts")


def cut(
    wheels: list[Path], folder: Path, size: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write the wheels one after the other into parts of one size; the manifest's files and parts.

    Both lists are in order, so the sizes alone say where a file begins.
    """
    files: list[dict[str, Any]] = []
    parts = Parts(folder, size)
    total = sum(path.stat().st_size for path in wheels)
    with tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024, desc="packing") as bar:
        for path in wheels:
            digest = hashlib.sha256()
            with path.open("rb") as stream:
                while block := stream.read(BLOCK):
                    digest.update(block)
                    parts.write(block)
                    bar.update(len(block))
            length = path.stat().st_size
            files.append({"name": path.name, "size": length, "sha256": digest.hexdigest()})
    return files, parts.finished()


def name_of(text: str) -> str:
    """Package name of a requirement, of a line of constraints, or of a wheel's file name."""
    name = text.partition("-")[0] if text.endswith(".whl") else text
    match = _NAME.match(name)
    return normalised(match.group()) if match else ""


def normalised(name: str) -> str:
    """Package name in the form in which registries compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())

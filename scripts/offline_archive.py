"""Content of a bundle that is unpacked and run with nothing installed: one compressed archive.

    site/       wheels, unpacked: a folder of PYTHONPATH
    project/    the files of this repository that git tracks
    packages/   model packages

Files of equal content are stored once.
"""

import hashlib
import io
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tqdm import tqdm

from scripts.device_code import DeviceCodeError, architecture_of, keep_only
from scripts.offline_parts import Parts

ROOT = Path(__file__).resolve().parent.parent

NOT_NEEDED = ("docs/images/", ".ci/")
"""Prefixes of the paths in the project that are not packed."""

# Left out of ONNX Runtime's wheel: a provider that we do not use, and the library for other
# languages, whose code the Python module contains too.
_PROVIDER = "onnxruntime/capi/libonnxruntime_providers_cuda.so"
_LEFT_OUT = (
    "onnxruntime/capi/libonnxruntime_providers_tensorrt",
    "onnxruntime/capi/libonnxruntime.so",
)

_IN_SITE = {"purelib", "platlib"}
"""Parts of a wheel's `.data` folder that are installed beside its modules."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file of the archive."""

    path: str
    """Path in the archive."""
    read: Callable[[], bytes]
    size: int
    executable: bool = False


def wheel_items(wheel: Path, gpu: str | None) -> Iterator[Item]:
    """Files of a wheel. With a `gpu`, ONNX Runtime's device code is kept for that GPU alone.

    Raises DeviceCodeError when a `gpu` is named and the wheel has no such code.
    """
    archive = zipfile.ZipFile(wheel)
    if gpu and _PROVIDER not in archive.namelist():
        raise DeviceCodeError(f"{wheel.name}: no {_PROVIDER}, whose device code is for {gpu}")
    for info in archive.infolist():
        place = _place(info.filename)
        if place is None or (gpu and place.startswith(_LEFT_OUT)):
            continue

        slim = gpu if info.filename == _PROVIDER else None
        read = partial(_read, archive, info, slim)
        executable = bool((info.external_attr >> 16) & 0o111)
        yield Item(f"site/{place}", read, info.file_size, executable)


def _place(name: str) -> str | None:
    """Path of a wheel's file in a folder of modules; None for a file that has no place there."""
    if name.endswith("/"):
        return None
    first, *rest = PurePosixPath(name).parts
    if not first.endswith(".data"):
        return name
    return "/".join(rest[1:]) if rest[0] in _IN_SITE else None


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, gpu: str | None) -> bytes:
    content = archive.read(info)
    if gpu is None:
        return content
    slim = bytearray(content)
    keep_only(slim, architecture_of(gpu), _PROVIDER)
    return bytes(slim)


def project_items() -> Iterator[Item]:
    """Tracked files as the work tree has them, and metadata that make Calotype look installed."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in filter(None, done.stdout.split("\0")):
        if not name.startswith(NOT_NEEDED) and (ROOT / name).is_file():
            yield file_item(ROOT / name, f"project/{name}")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = f"Metadata-Version: 2.1\nName: calotype\nVersion: {version}\n".encode()
    yield Item(f"site/calotype-{version}.dist-info/METADATA", lambda: text, len(text))


def folder_items(folder: Path, place: str) -> Iterator[Item]:
    """Files of a folder, in the archive's folder `place`."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        yield file_item(path, f"{place}/{path.relative_to(folder).as_posix()}")


def file_item(path: Path, place: str) -> Item:
    """A file on disk, as an item of the archive at `place`."""
    status = path.stat()
    return Item(place, path.read_bytes, status.st_size, bool(status.st_mode & 0o111))


def write_archive(items: Iterable[Item], parts: Parts) -> dict[str, int]:
    """Write the items compressed; uncompressed bytes of each top folder of the archive."""
    known = sorted(items, key=lambda each: each.path)
    sizes: dict[str, int] = {}
    written: dict[bytes, str] = {}
    total = sum(each.size for each in known)
    with (
        tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024, desc="compressing") as bar,
        tarfile.open(fileobj=cast("IO[bytes]", parts), mode="w|xz") as archive,
    ):
        for item in known:
            top = item.path.partition("/")[0]
            sizes[top] = sizes.get(top, 0) + item.size
            _add(archive, item, written)
            bar.update(item.size)
    return sizes


def _add(archive: tarfile.TarFile, item: Item, written: dict[bytes, str]) -> None:
    content = item.read()
    info = tarfile.TarInfo(item.path)
    info.mode = 0o755 if item.executable else 0o644
    before = written.setdefault(
        hashlib.sha256(content + bytes([info.mode & 1])).digest(), item.path
    )
    if before != item.path and content:
        info.type, info.linkname = tarfile.LNKTYPE, before
        archive.addfile(info)
        return
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))

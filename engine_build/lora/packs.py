"""Puts LoRA packs into a model package, and takes them out: each at once, or not at all."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import save_file

from engine_build.lora.convert import convert
from engine_build.lora.formats import read_lora
from engine_build.lora.graphs import prepare
from runtime.errors import PackageError, SourceError
from runtime.files import put_in_place
from runtime.package.file_record import record_file
from runtime.package.manifest import ModelPackage
from runtime.package.pack import (
    FACTORS_NAME,
    FOLDER,
    LoraPack,
    PackRecord,
    PackSource,
    read_pack,
    write_pack,
)
from runtime.package.shelf import LoraShelf

_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class LoraRequest:
    """A pack that is to be made. None: the value that the file has, or else the default."""

    path: Path
    reference: str
    """The reference that the user gave, for people."""
    id: str | None = None
    name: str | None = None
    triggers: str | None = None
    weight: float = 1.0
    trigger_weight: float = 0.5


def add_pack(package: ModelPackage, request: LoraRequest) -> LoraPack:
    """Make a pack of a LoRA file and put it in its place in one step; a server sees it at once.

    Raises SourceError where the file is no LoRA for the package, PackageError where the id is
    taken or a graph of the package is damaged.
    """
    file = read_lora(request.path)
    identity = request.id or _id(request.path.stem)
    place = package.path / FOLDER / identity
    if place.exists():
        raise PackageError(
            f"{place}: already there; remove it first, or give another name with --id"
        )
    conversion = convert(file, package.manifest)
    title = file.metadata.get("modelspec.title") or file.metadata.get("ss_output_name")
    triggers = request.triggers
    if triggers is None:
        triggers = file.metadata.get("modelspec.trigger_phrase", "")
    prepare(package)  # A server may draw with the pack as soon as that is there.
    with _staged(place) as folder:
        save_file(dict(conversion.factors), folder / FACTORS_NAME)
        # safetensors lets only its owner read it, and a server may run as another.
        (folder / FACTORS_NAME).chmod(0o644)
        record = PackRecord(
            id=identity,
            name=request.name or title or identity,
            triggers=triggers.strip(),
            weight=request.weight,
            trigger_weight=request.trigger_weight,
            source=PackSource(request.reference, record_file(request.path).sha256),
            targets=conversion.targets,
            not_covered=conversion.not_covered,
            files={FACTORS_NAME: record_file(folder / FACTORS_NAME)},
        )
        write_pack(folder, record)
    return read_pack(place)


def remove_pack(package: ModelPackage, identity: str) -> None:
    """Take a pack out; jobs that wait for it will fail and say so. Raises PackageError."""
    place = package.path / FOLDER / identity
    # A dotted name is no pack's: the adaptable graphs lie there too. Nor is a path to elsewhere.
    if identity.startswith(".") or place.parent != package.path / FOLDER or not place.is_dir():
        found = ", ".join(pack.id for pack in LoraShelf(package).packs()) or "none"
        raise PackageError(f"{package.manifest.name} has no LoRA {identity!r} (found: {found})")
    with tempfile.TemporaryDirectory(prefix=".", dir=place.parent) as retired:
        place.rename(Path(retired) / identity)


def _id(stem: str) -> str:
    identity = _NOT_IN_AN_ID.sub("_", stem).strip("._-")[:64]
    if not identity:
        raise SourceError(f"{stem!r} gives no id for the pack; name it with --id")
    return identity


@contextmanager
def _staged(place: Path) -> Iterator[Path]:
    """A folder that becomes `place` when the block ends well, and is gone otherwise."""
    place.parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".", dir=place.parent))
    try:
        yield folder
        folder.chmod(0o755)
        put_in_place(folder, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""Puts LoRA packs into a model package, and takes them out: each at once, or not at all."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import save_file

from engine_build.checkpoint.printable import printable
from engine_build.lora.convert import convert
from engine_build.lora.formats import LoraFile, read_lora
from engine_build.lora.graphs import prepare
from engine_build.lora.inversions import Vectors, bundled, write_vectors
from engine_build.lora.staging import identity_of, staged
from runtime.errors import PackageError, SourceError
from runtime.package.file_record import record_file
from runtime.package.inversion import VECTORS_NAME
from runtime.package.manifest import Manifest, ModelPackage
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

logger = logging.getLogger(__name__)


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
    identity = request.id or identity_of(request.path.stem)
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
    words, left_out = _words(file, package.manifest)
    prepare(package)  # A server may draw with the pack as soon as that is there.
    with staged(place) as folder:
        save_file(dict(conversion.factors), folder / FACTORS_NAME)
        # safetensors lets only its owner read it, and a server may run as another.
        (folder / FACTORS_NAME).chmod(0o644)
        files = {FACTORS_NAME: record_file(folder / FACTORS_NAME)}
        if words:
            files[VECTORS_NAME] = write_vectors(folder, words)
        record = PackRecord(
            id=identity,
            name=request.name or title or identity,
            triggers=triggers.strip(),
            weight=request.weight,
            trigger_weight=request.trigger_weight,
            source=PackSource(request.reference, record_file(request.path).sha256),
            targets=conversion.targets,
            not_covered=(*conversion.not_covered, *left_out),
            files=files,
            words=tuple(each.word for each in words),
        )
        write_pack(folder, record)
    return read_pack(place)


def _words(file: LoraFile, manifest: Manifest) -> tuple[tuple[Vectors, ...], tuple[str, ...]]:
    """The embeddings that a file comes with, and the names of their tensors where they are none for
    the model: the LoRA is added without them, and that is said.
    """
    try:
        return bundled(file.path, file.inversions, manifest), ()
    except (SourceError, PackageError) as error:
        logger.warning("%s; the LoRA is added without the embeddings in its file", error)
        return (), tuple(sorted(map(printable, file.inversions)))


def remove_pack(package: ModelPackage, identity: str) -> None:
    """Take a pack out; jobs that wait for it will fail and say so. Raises PackageError."""
    place = package.path / FOLDER / identity
    # A dotted name is no pack's: the adaptable graphs lie there too. Nor is a path to elsewhere.
    if identity.startswith(".") or place.parent != package.path / FOLDER or not place.is_dir():
        found = ", ".join(pack.id for pack in LoraShelf(package).packs()) or "none"
        raise PackageError(f"{package.manifest.name} has no LoRA {identity!r} (found: {found})")
    with tempfile.TemporaryDirectory(prefix=".", dir=place.parent) as retired:
        place.rename(Path(retired) / identity)

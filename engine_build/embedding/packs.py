"""Puts textual inversions into a model package, and takes them out: each at once, or not at all."""

import tempfile
from pathlib import Path

from engine_build.lora.graphs import prepare
from engine_build.lora.inversions import most_vectors, read_embedding, write_vectors
from engine_build.lora.staging import identity_of, staged
from runtime.errors import PackageError, SourceError
from runtime.package.inversion import (
    FOLDER,
    VECTORS_NAME,
    Inversion,
    InversionRecord,
    read_inversion,
    word_fault,
    write_inversion,
)
from runtime.package.manifest import ModelPackage
from runtime.package.shelf import InversionShelf


def add_embedding(package: ModelPackage, path: Path, identity: str | None) -> Inversion:
    """Make a pack of a file and put it in its place in one step; a server sees it at once.

    `identity` None: the file's name. Raises SourceError where the file is no embedding for the
    package, PackageError where the model takes none, or has one of that name.
    """
    name = identity or identity_of(path.stem)
    vectors = read_embedding(path, name, most_vectors(package.manifest))
    if fault := word_fault(vectors.word, package.manifest):
        raise SourceError(f"{path}: {fault}")
    place = package.path / FOLDER / name
    taken = [each for each in InversionShelf(package).inversions() if _same(each.name, name)]
    if place.exists() or taken:
        raise PackageError(
            f"{place}: already there; remove it first, or give another name with --id"
        )
    prepare(package)  # A server may draw with the embedding as soon as that is there.
    with staged(place) as folder:
        files = {VECTORS_NAME: write_vectors(folder, (vectors,))}
        write_inversion(folder, InversionRecord(vectors.word, path.name, files))
    return read_inversion(place)


def remove_embedding(package: ModelPackage, name: str) -> None:
    """Take an embedding out. Raises PackageError."""
    folder = package.path / FOLDER
    place = folder / name
    if name.startswith(".") or place.parent != folder or not place.is_dir():
        found = ", ".join(each.name for each in InversionShelf(package).inversions()) or "none"
        raise PackageError(f"{package.manifest.name} has no embedding {name!r} (found: {found})")
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as retired:
        place.rename(Path(retired) / name)


def _same(name: str, other: str) -> bool:
    return name.casefold() == other.casefold()

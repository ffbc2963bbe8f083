"""Textual inversions on disk: the contract between `engine-build embedding add` and the runtime.

A textual inversion is a word whose token embeddings were learned (Gal et al. 2022, arXiv
2208.01618): one vector or several, for each text encoder of a model. A pack of one is a directory
`engines/NAME/embeddings/ID/`: the sealed `embedding.json`, and the vectors in
`vectors.safetensors`, `[vectors, width]` in fp32, named WORD/ROLE. LoRA packs have the same file
for the inversions that came with the LoRA.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from runtime.errors import PackageError
from runtime.files import write_whole
from runtime.package.file_record import FileRecord, file_fault
from runtime.package.hashes import KnownHashes
from runtime.package.manifest import Manifest
from runtime.package.sealed import read_sealed, seal
from runtime.package.tensors import map_tensors

FORMAT = 1
FOLDER = "embeddings"
RECORD_NAME = "embedding.json"
VECTORS_NAME = "vectors.safetensors"

_STRICT = ConfigDict(extra="forbid")

_TABLE = "embeddings.token_embedding.weight"
"""The end of the name that CLIP's token embedding `[tokens, width]` has in every checkpoint."""


@checked_dataclass(frozen=True, config=_STRICT)
class Word:
    """A word that a prompt may use, and the text encoders that have vectors for the word."""

    name: str
    vectors: int
    """The number of tokens that the word takes."""
    widths: Mapping[str, int]
    """The width of a vector, by the role of its text encoder."""

    def tensor_name(self, role: str) -> str:
        """The name of the word's vectors in their file."""
        return f"{self.name}/{role}"


@checked_dataclass(frozen=True, config=_STRICT)
class InversionRecord:
    """The facts of a pack that are known before its vectors are read."""

    word: Word
    reference: str
    """The file that the pack was made of, for people."""
    files: Mapping[str, FileRecord]
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Inversion:
    """A word with its vectors; two inversions are equal where they are the same to the byte."""

    name: str
    vectors: int
    digest: str
    """The digest of the record that states the hash of the vectors' file."""
    word: Word = field(compare=False, repr=False)
    path: Path = field(compare=False)
    """The vectors' file, in the folder of its pack."""
    content: FileRecord = field(compare=False, repr=False)

    def of(self, role: str) -> NDArray[np.float32]:
        """The vectors for a text encoder, `[vectors, width]`.

        Raises PackageError where the file is gone or damaged.
        """
        remedy = f"remove {self.path.parent.name} and add it again"
        with KnownHashes(self.path.parents[2]) as hashes:
            fault = file_fault(self.path, self.content, remedy, hashes)
        if fault:
            raise PackageError(fault)
        return map_tensors(self.path)[self.word.tensor_name(role)].fp32()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a text encoder's token embedding that holds a vector while a prompt is encoded.

    The row is that of a token which the prompt does not have, so that no graph needs another shape.
    """

    role: str
    token: int
    inversion: Inversion
    index: int
    """The index of the vector among the word's."""


Rows: TypeAlias = tuple[Row, ...]


def inversions_of(
    words: Sequence[Word], digest: str, folder: Path, files: Mapping[str, FileRecord]
) -> tuple[Inversion, ...]:
    """The inversions of a pack, which may be a LoRA's."""
    return tuple(
        Inversion(word.name, word.vectors, digest, word, folder / VECTORS_NAME, files[VECTORS_NAME])
        for word in words
    )


def write_inversion(folder: Path, record: InversionRecord) -> None:
    """Write `embedding.json` into a pack that is being made."""
    write_whole(folder / RECORD_NAME, seal(_RECORD, record))


def read_inversion(folder: Path) -> Inversion:
    """Read and check `embedding.json` alone. Raises PackageError, and FileNotFoundError."""
    remedy = (
        "remove the folder and add the embedding again with: "
        f"engine-build embedding add FILE --model {folder.parents[1].name} --id {folder.name}"
    )
    record, digest = read_sealed(folder / RECORD_NAME, _RECORD, FORMAT, remedy)
    (found,) = inversions_of((record.word,), digest, folder, record.files)
    return found


_RECORD: TypeAdapter[InversionRecord] = TypeAdapter(InversionRecord)


def table_of(manifest: Manifest, role: str) -> str:
    """The parameter of a text encoder that is its token embedding. Raises PackageError."""
    found = [name for name in manifest.roles[role].parameters if name.endswith(_TABLE)]
    if len(found) != 1:
        raise PackageError(
            f"{manifest.name}: {role} has {len(found)} token embeddings, expected 1; "
            "build the package again"
        )
    return found[0]


def word_fault(word: Word, manifest: Manifest) -> str | None:
    """The reason why a word does not fit a package; None where the word fits."""
    for role, width in word.widths.items():
        record = manifest.roles.get(role)
        if record is None:
            return f"{word.name}: {manifest.name} has no {role}"
        if record.weights is None:
            return (
                f"{word.name}: the weights of {manifest.name} were left in place; build it with "
                "weights of its own to use embeddings with it"
            )
        wanted = record.parameters[table_of(manifest, role)].shape[1]
        if width != wanted:
            return f"{word.name}: vectors of {role} are {width} wide, expected {wanted}"
    return None

"""A LoRA pack on disk: the contract between `engine-build lora add` and the runtime.

A pack is a directory `engines/NAME/loras/ID/` inside the package that it was made for. Its sealed
`pack.json` says which of the package's parameters the pack changes and how; the factors of the
changes lie in `factors.safetensors`, named ROLE/PARAMETER/FACTOR.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from runtime.errors import PackageError
from runtime.files import write_whole
from runtime.package.file_record import FileRecord, file_fault
from runtime.package.hashes import KnownHashes
from runtime.package.inversion import Inversion, Word, inversions_of, word_fault
from runtime.package.manifest import Manifest
from runtime.package.sealed import read_sealed, seal
from runtime.package.tensors import Tensor, map_tensors

FORMAT = 1
FOLDER = "loras"
PACK_NAME = "pack.json"
FACTORS_NAME = "factors.safetensors"

Kind = Literal["lora", "loha", "lokr", "diff"]
"""The formula that computes a parameter's change from factors: see `runtime.draw.lora.deltas`."""

MAGNITUDE = "magnitude"
"""The factor that DoRA's step uses, whatever the kind of the change."""

_STRICT = ConfigDict(extra="forbid")


@checked_dataclass(frozen=True, config=_STRICT)
class Decomposition:
    """DoRA's step behind a change: the weight is given magnitudes of its own along one axis."""

    axis: Literal["outputs", "inputs"]
    """The axis that has a magnitude for each of its places: rows are outputs, columns inputs."""
    rule: Literal["lycoris", "peft"]
    """The project whose formula holds at weights other than 1."""


@checked_dataclass(frozen=True, config=_STRICT)
class AdaptedParameter:
    """A parameter of the package, and a pack's change of the parameter."""

    role: str
    parameter: str
    kind: Kind
    shape: tuple[int, ...]
    scale: float
    """The scale of the change at weight 1: alpha / rank."""
    factors: tuple[str, ...]
    decomposition: Decomposition | None = None
    """None: the change is added, and no more."""

    @property
    def form(self) -> str:
        """The kind of the change, with DoRA's step where there is one; for people."""
        return self.kind if self.decomposition is None else f"{self.kind} with dora"

    def tensor_name(self, factor: str) -> str:
        """The name of a factor in the pack's file."""
        return f"{self.role}/{self.parameter}/{factor}"


@checked_dataclass(frozen=True, config=_STRICT)
class PackSource:
    """The origin of a pack, for people."""

    reference: str
    sha256: str


@checked_dataclass(frozen=True, config=_STRICT)
class PackRecord:
    """The facts of a pack that are known before its factors are read."""

    id: str
    name: str
    triggers: str
    """Trigger words, separated by commas; often none."""
    weight: float
    """The default weight of the pack."""
    trigger_weight: float
    """The default emphasis of the trigger words."""
    source: PackSource
    targets: tuple[AdaptedParameter, ...]
    not_covered: tuple[str, ...]
    """Layers of the source that match no parameter of this package, and so have no effect."""
    files: Mapping[str, FileRecord]
    words: tuple[Word, ...] = ()
    """Textual inversions that came with the LoRA."""
    format: int = FORMAT

    @property
    def roles(self) -> frozenset[str]:
        """The networks that the pack changes."""
        return frozenset(target.role for target in self.targets)


_PACK: TypeAdapter[PackRecord] = TypeAdapter(PackRecord)


@dataclass(frozen=True, slots=True)
class LoraPack:
    """A pack whose record was read; two packs are equal where they are the same to the byte."""

    digest: str
    path: Path = field(compare=False)
    record: PackRecord = field(compare=False, repr=False)

    @property
    def id(self) -> str:
        """The name of the pack in requests."""
        return self.record.id

    @property
    def inversions(self) -> tuple[Inversion, ...]:
        """The textual inversions that came with the LoRA."""
        return inversions_of(self.record.words, self.digest, self.path, self.record.files)

    def factors(self) -> dict[str, Tensor]:
        """Check the factors' file and map it into memory; the mapping outlives a removed pack.

        Raises PackageError where the file is gone or damaged.
        """
        path = self.path / FACTORS_NAME
        expected, remedy = self.record.files[FACTORS_NAME], _remedy(*_place(self.path))
        with KnownHashes(self.path.parents[1]) as hashes:
            fault = file_fault(path, expected, remedy, hashes)
        if fault:
            raise PackageError(fault)
        return map_tensors(path)


LoraSet: TypeAlias = tuple[tuple[LoraPack, float], ...]
"""The packs that act on a picture with their weights, none of them 0, in the request's order."""


def write_pack(directory: Path, record: PackRecord) -> None:
    """Write `pack.json` into a pack that is being made."""
    write_whole(directory / PACK_NAME, seal(_PACK, record))


def read_pack(directory: Path) -> LoraPack:
    """Read and check `pack.json` alone. Raises PackageError, and FileNotFoundError for no file."""
    path, remedy = directory / PACK_NAME, _remedy(*_place(directory))
    record, digest = read_sealed(path, _PACK, FORMAT, remedy)
    if any(MAGNITUDE in each.factors and each.decomposition is None for each in record.targets):
        raise PackageError(
            f"{path}: made by an older version, which did not say along which axis the magnitudes "
            f"of DoRA lie; {remedy}"
        )
    return LoraPack(digest, directory, record)


def fit_fault(record: PackRecord, manifest: Manifest) -> str | None:
    """The reason why a pack does not fit a package, such as a model built anew from another source;
    None where the pack fits.
    """
    for target in record.targets:
        role = manifest.roles.get(target.role)
        if role and role.weights is None:
            return (
                f"{record.id}: the weights of {manifest.name} were left in place; "
                "build it with weights of its own to lay LoRAs on them"
            )
        parameter = role.parameters.get(target.parameter) if role else None
        remedy = _remedy(manifest.name, record.id)
        if parameter is None:
            return f"{record.id}: {target.role} has no {target.parameter}; {remedy}"
        if parameter.shape != target.shape:
            return (
                f"{record.id}: {target.parameter} is {list(parameter.shape)}, "
                f"expected {list(target.shape)}; {remedy}"
            )
    return next(filter(None, (word_fault(word, manifest) for word in record.words)), None)


def _place(directory: Path) -> tuple[str, str]:
    """The model whose pack it is, and the pack's id."""
    return directory.parents[1].name, directory.name


def _remedy(model: str, identity: str) -> str:
    return (
        "remove the pack and add it again with: "
        f"engine-build lora add REF --model {model} --id {identity}"
    )

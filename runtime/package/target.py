"""A compiled target on disk: the contract between `engine-build compile` and the runtime.

A target is a directory `engines/NAME/targets/TARGET/` inside the package that it was compiled from.
Its sealed `target.json` says what it was compiled for and from what (its *identity*: everything
that changes an engine's bytes or their meaning), what each engine takes, and how far it was from
ONNX Runtime when it was checked. A target is served only once it was checked on the device.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from runtime.errors import PackageError
from runtime.files import write_whole
from runtime.package.backend_name import BackendName
from runtime.package.engine_record import EngineRecord, Variant, files_fault
from runtime.package.hashes import KnownHashes
from runtime.package.manifest import (
    HEIGHT,
    WIDTH,
    Manifest,
    Precision,
    RoleRecord,
)
from runtime.package.sealed import read_sealed, seal

FORMAT = 1
FOLDER = "targets"
TARGET_NAME = "target.json"

TF32 = "TF32"
"""An engine's flag: the GPU may compute fp32 products with TF32's mantissa."""

_STRICT = ConfigDict(extra="forbid")


@checked_dataclass(frozen=True, config=_STRICT)
class Range:
    """The extents of an axis that an engine takes, and the one that the engine was tuned for."""

    smallest: int
    best: int
    largest: int


Profile = Mapping[str, Range]
"""A range for every dynamic axis of a role's inputs, by the axis's name in the manifest."""


@checked_dataclass(frozen=True, config=_STRICT)
class EngineIdentity:
    """The facts that make two engines of a role the same or not."""

    graph_sha256: str
    weights_sha256: str
    """One hash for all files that hold the role's weights: see `weights_sha256`."""
    precision: Precision
    """The precision of matrix products and convolutions; where the engine's record has a Narrowing,
    the precision that was wished for."""
    profiles: tuple[Profile, ...]
    refittable: tuple[str, ...]
    """The initializers that can be given other values while the engine is open, sorted."""
    flags: tuple[str, ...]
    """Other options of the compiler, sorted."""


@checked_dataclass(frozen=True, config=_STRICT)
class TargetIdentity:
    """The facts that change a target's bytes or their meaning, and no others."""

    backend: BackendName
    backend_version: str
    compute_capability: str
    """For example `sm_89`."""
    engines: Mapping[str, EngineIdentity]
    """By role."""

    @property
    def digest(self) -> str:
        """A hash of the identity: equal where identities are equal."""
        content = _IDENTITY.dump_python(self, mode="json")
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def name(self) -> str:
        """The target's folder: for people, with enough of the digest to tell targets apart."""
        precision = self.engines["denoiser"].precision
        version = self.backend_version.replace("+", "-")
        return f"{self.backend}-{version}-{self.compute_capability}-{precision}-{self.digest[:8]}"


@checked_dataclass(frozen=True, config=_STRICT)
class TargetRecord:
    """The facts of a target that are known before an engine is opened."""

    identity: TargetIdentity
    engines: Mapping[str, EngineRecord]
    """By role."""
    compiled_on: str
    """The machine that compiled the target, for people: the machine's GPU, or that it had none."""
    command: str
    """The `engine-build compile` command that makes the target."""
    format: int = FORMAT

    @property
    def verified(self) -> bool:
        """True where every engine was checked on the device and passed."""
        checks = [engine.check for engine in self.engines.values()]
        return all(check is not None and check.passed for check in checks)


_IDENTITY: TypeAdapter[TargetIdentity] = TypeAdapter(TargetIdentity)
_TARGET: TypeAdapter[TargetRecord] = TypeAdapter(TargetRecord)
_REMEDY = "remove its folder and compile it again with: engine-build compile"


@dataclass(frozen=True, slots=True)
class Target:
    """A target that was read."""

    path: Path
    record: TargetRecord = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the target's folder."""
        return self.path.name

    def engine(self, role: str) -> Path:
        """The file of a role's engine."""
        return self.path / self.record.engines[role].file

    def variant(self, role: str, variant: Variant) -> Path:
        """The file of a variant of a role's engine."""
        return self.path / self.record.engines[role].variants[variant].file

    def prelude(self, role: str, variant: Variant | None = None) -> Path | None:
        """The file of a role's prelude, or of a variant of the prelude; None where the role has no
        prelude.
        """
        prelude = self.record.engines[role].prelude
        if prelude is None:
            return None
        file = prelude.file if variant is None else prelude.variants[variant].file
        return self.path / file

    def fault(self, role: str) -> str | None:
        """The fault of a role's engine files, with the remedy; None when they are whole."""
        remedy = f"remove {self.path} and run: {self.record.command}"
        with KnownHashes(package_folder(self.path)) as hashes:
            return files_fault(self.path, self.record.engines[role], remedy, hashes)


def package_folder(target: Path) -> Path:
    """The folder of the package that a target's folder, finished or not, lies in."""
    return target.parents[1]


def write_target(directory: Path, record: TargetRecord) -> None:
    """Write `target.json`, in one step: a reader sees the old file or the new file."""
    write_whole(directory / TARGET_NAME, seal(_TARGET, record))


def read_target(directory: Path) -> Target:
    """Read and check `target.json` alone. Raises PackageError."""
    try:
        record, _ = read_sealed(directory / TARGET_NAME, _TARGET, FORMAT, _REMEDY)
    except FileNotFoundError:
        raise PackageError(
            f"{directory}: no {TARGET_NAME}, so this is no finished target; "
            "`engine-build targets NAME` lists those that are"
        ) from None
    return Target(directory, record)


def target_directories(package: Path) -> Iterator[Path]:
    """The finished targets of a package, by name. A compilation in progress has a dotted name."""
    folder = package / FOLDER
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if not path.name.startswith(".") and (path / TARGET_NAME).is_file():
                yield path


def graph_sha256(role: RoleRecord, manifest: Manifest) -> str:
    """The hash of a role's graph, as the manifest has it."""
    return manifest.files[role.graph].sha256


def weights_sha256(role: RoleRecord, manifest: Manifest) -> str:
    """One hash for all files that hold a role's weights: the hash of the package's own file, or a
    hash over the sorted hashes of files left in place.
    """
    if role.weights is not None:
        return manifest.files[role.weights].sha256
    folder = role.external_folder or ""
    hashes = sorted(
        record.sha256
        for path, record in manifest.external_files.items()
        if Path(path).is_relative_to(folder)
    )
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def tuned_sizes(identity: TargetIdentity, manifest: Manifest) -> tuple[tuple[int, int], ...]:
    """Width and height in pixels of every size that the denoiser was tuned for, with the size
    served most first.
    """
    scale = manifest.latents.scale_factor
    sizes = (
        (profile[WIDTH].best * scale, profile[HEIGHT].best * scale)
        for profile in identity.engines["denoiser"].profiles
    )
    return tuple(dict.fromkeys(sizes))


def differences(found: TargetIdentity, wanted: TargetIdentity) -> list[str]:
    """The differences between a target and the one that is wanted, part by part, for people."""
    parts = [
        f"{label} is {ours}, expected {theirs}"
        for label, ours, theirs in (
            ("backend", found.backend, wanted.backend),
            ("backend version", found.backend_version, wanted.backend_version),
            ("GPU", found.compute_capability, wanted.compute_capability),
        )
        if ours != theirs
    ]
    for role in sorted(wanted.engines):
        if role not in found.engines:
            parts.append(f"it has no engine for {role}")
        else:
            parts += _engine_differences(role, found.engines[role], wanted.engines[role])
    return parts


def stale_parts(target: TargetRecord, manifest: Manifest) -> list[str]:
    """Reasons why a target is stale, in words: it was compiled from other files than the package
    holds now, or by a version of Calotype that wrote no files for LoRAs.
    """
    parts = []
    identity = target.identity
    for role, engine in sorted(identity.engines.items()):
        record = manifest.roles.get(role)
        if record is None:
            parts.append(f"the package has no {role} any more")
            continue
        if engine.graph_sha256 != graph_sha256(record, manifest):
            parts.append(f"{role} was compiled from another graph")
        if engine.weights_sha256 != weights_sha256(record, manifest):
            parts.append(f"{role} was compiled from other weights")
        by_inputs = identity.backend == "onnxruntime-cuda" and engine.refittable
        if by_inputs and not target.engines[role].variants:
            parts.append(f"{role} was compiled by an older version, without its graphs for LoRAs")
    return parts


def _engine_differences(role: str, found: EngineIdentity, wanted: EngineIdentity) -> list[str]:
    parts = []
    if found.graph_sha256 != wanted.graph_sha256:
        parts.append(f"{role} was compiled from another graph")
    if found.weights_sha256 != wanted.weights_sha256:
        parts.append(f"{role} was compiled from other weights")
    if found.precision != wanted.precision:
        parts.append(f"{role} computes in {found.precision}, expected {wanted.precision}")
    if found.profiles != wanted.profiles:
        parts.append(f"{role} takes other sizes or batches")
    if found.refittable != wanted.refittable:
        parts.append(f"{role} lets other weights be replaced")
    if found.flags != wanted.flags:
        ours, theirs = (", ".join(flags) or "none" for flags in (found.flags, wanted.flags))
        parts.append(f"{role} was compiled with the flags {ours}, expected {theirs}")
    return parts

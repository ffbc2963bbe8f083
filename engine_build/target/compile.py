"""The steps of a compilation, in order: from a package to a target of it.

Engines are compiled one at a time into `targets/.TARGET.compiling/`, and each finished engine gets
a record beside it. An interruption leaves the finished engines, and the same command compiles only
the others. The target's name has a digest of its identity in it, so that no engine of another
target is ever taken. With all engines there, the folder is renamed: a target is whole, or absent.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from engine_build.package.publish import locked
from engine_build.progress import Phases, Progress
from engine_build.target.activations import check_range
from engine_build.target.compiler import COMPILERS, Compiler, Room
from engine_build.target.reference import Reference
from engine_build.target.targets import Wanted, target_identity
from runtime.errors import BuildError, CalotypeError, PackageError
from runtime.files import put_in_place, remove_unfinished, write_whole
from runtime.package.engine_record import EngineRecord, files_fault
from runtime.package.hashes import KnownHashes
from runtime.package.manifest import Manifest, ModelPackage
from runtime.package.sealed import read_sealed, seal
from runtime.package.target import (
    FOLDER,
    Target,
    TargetIdentity,
    TargetRecord,
    differences,
    package_folder,
    read_target,
    target_directories,
    write_target,
)

_FORMAT = 1


@checked_dataclass(frozen=True)
class _Kept:
    """A finished engine of a compilation that goes on."""

    engine: EngineRecord
    format: int = _FORMAT


_KEPT: TypeAdapter[_Kept] = TypeAdapter(_Kept)


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """A target that is to be compiled, and the package that it is compiled from."""

    reference: Reference
    """The package's reference: at all wanted sizes where the target is verified, else at one."""
    wanted: Wanted
    gpu_at_hand: str | None
    """The compute capability of this machine's GPU; None where it has none."""
    machine: str
    """The machine that compiles the target, for people."""

    @property
    def package(self) -> ModelPackage:
        """The package that is compiled."""
        return self.reference.package

    @property
    def gpu_is_here(self) -> bool:
        """True on a machine with the GPU that is compiled for: engines are verified there."""
        return self.gpu_at_hand == self.wanted.compute_capability

    @property
    def verified_next(self) -> bool:
        """True where the GPU is here and the reference is drawn on that GPU: engines are verified
        there after they are compiled, and not checked on the CPU."""
        return self.gpu_is_here and self.reference.place.on_device


def compile_target(request: CompileRequest, *, show_progress: bool = True) -> Target:
    """Compile what is not there yet. Returns the target, unverified unless it was there before.

    Raises PackageError for a damaged target, BackendError where the compiler is not here, and
    BuildError for what cannot be compiled, before any work where that can be known.
    """
    package = request.package
    compiler = COMPILERS[request.wanted.backend].installed()
    identity = target_identity(package.manifest, request.wanted, compiler.version)
    _check_gpu(request, identity, compiler)
    folder = package.path / FOLDER
    final = folder / identity.name
    if final.is_dir():
        return _checked(final)
    check_range(request.reference, request.wanted)
    folder.mkdir(exist_ok=True)
    staging = folder / f".{identity.name}.compiling"
    with locked(folder / f".{identity.name}.lock", f"{identity.name} is being compiled already"):
        staging.mkdir(exist_ok=True)
        remove_unfinished(staging)
        try:
            engines = _engines(request, compiler, identity, staging, show_progress=show_progress)
        except CalotypeError:
            # `targets` lists each such folder as work to go on with; this one holds none.
            if not any(_record_path(staging, role).exists() for role in identity.engines):
                shutil.rmtree(staging)
            raise
        record = TargetRecord(
            identity=identity,
            engines=engines,
            compiled_on=request.machine,
            command=request.wanted.command(package.path.name),
        )
        write_target(staging, record)
        for role in engines:
            _record_path(staging, role).unlink(missing_ok=True)
        put_in_place(staging, final)
    return read_target(final)


def _engines(
    request: CompileRequest,
    compiler: Compiler,
    identity: TargetIdentity,
    staging: Path,
    *,
    show_progress: bool,
) -> dict[str, EngineRecord]:
    """Every role's engine: the one that is kept in `staging`, or one that is compiled now."""
    reference = request.reference
    engines = {role: kept for role in identity.engines if (kept := _kept(staging, role))}
    missing = [role for role in identity.engines if role not in engines]
    room = COMPILERS[identity.backend].room
    check_room(reference.package.manifest, missing, staging.parent, room)
    with Progress(len(identity.engines), shown=show_progress) as progress:
        for role in identity.engines:
            with progress.step(f"{role}: compile" if role in missing else f"{role}: kept"):
                if role in missing:
                    with Phases(role, shown=show_progress) as phases:
                        engine = compiler.compile(reference, identity, role, staging, phases)
                        # A graph of published size takes the CPU an hour, its GPU seconds.
                        if not request.verified_next:
                            precision = engine.precision(identity.engines[role].precision)
                            compiler.check(reference, role, precision, staging, phases)
                    _keep(staging, role, engine)
                    engines[role] = engine
    return engines


def nearest(request: CompileRequest) -> str | None:
    """A sentence that names the existing target most like the wanted one, and how the two differ;
    None where the wanted target exists, or no target for this GPU by this backend. Raises
    PackageError for a damaged target."""
    package = request.package
    version = COMPILERS[request.wanted.backend].installed().version
    wanted = target_identity(package.manifest, request.wanted, version)
    found = {}
    for directory in target_directories(package.path):
        target = read_target(directory)
        identity = target.record.identity
        if (identity.backend, identity.compute_capability) == (
            wanted.backend,
            wanted.compute_capability,
        ):
            found[target.name] = differences(identity, wanted)
    if not found or wanted.name in found:
        return None
    name = min(found, key=lambda each: len(found[each]))
    return f"{name} is there, but {'; '.join(found[name])}"


def check_room(manifest: Manifest, roles: list[str], folder: Path, room: Room) -> None:
    """Refuse to begin what memory or disk cannot hold. Raises BuildError."""
    sizes = {role: manifest.roles[role].weights_bytes for role in roles}
    if not sizes:
        return
    largest = max(sizes, key=lambda role: sizes[role])
    needed, there = sizes[largest] * room.memory, psutil.virtual_memory().available
    if needed > there:
        raise BuildError(
            f"{largest}: compiling it takes some {needed / 1e9:.1f} GB of memory, but "
            f"{there / 1e9:.1f} GB are free; close other programs, or compile on a larger machine"
        )
    written, free = sum(sizes.values()) * room.disk, shutil.disk_usage(folder).free
    if written > free:
        raise BuildError(
            f"{folder}: the engines take some {written / 1e9:.2f} GB, but {free / 1e9:.2f} GB are "
            "free on that disk; make room, or remove targets that are used no more"
        )


def _check_gpu(request: CompileRequest, identity: TargetIdentity, compiler: Compiler) -> None:
    wanted, here = identity.compute_capability, request.gpu_at_hand
    if not compiler.names_gpus and here != wanted:
        found = f"this one has {here}" if here else "this machine has none"
        raise BuildError(
            f"{identity.backend} compiles only on the GPU that it is for, {wanted}, and {found}; "
            "run the command there, or compile with another --backend"
        )
    refittable = any(engine.refittable for engine in identity.engines.values())
    if here is None and refittable and not compiler.refits_without_gpu:
        raise BuildError(
            f"{identity.backend} makes engines whose weights can be replaced, as LoRAs need it, "
            "only on a machine with a GPU; compile there, or with --fixed-weights, and the target "
            "will refuse LoRAs"
        )


def _checked(folder: Path) -> Target:
    """A target that is there, with every engine as it was compiled. Raises PackageError."""
    target = read_target(folder)
    for role in sorted(target.record.engines):
        fault = target.fault(role)
        if fault:
            raise PackageError(fault)
    return target


def find_target(package: ModelPackage, target: str) -> Target:
    """A package's target by its name. Raises PackageError that names those that there are."""
    folder = package.path / FOLDER / target
    if not folder.is_dir():
        name = package.path.name
        found = ", ".join(path.name for path in target_directories(package.path)) or "none"
        raise PackageError(
            f"{name} has no target {target!r} (found: {found}); compile one with: "
            f"engine-build compile {name}"
        )
    return read_target(folder)


def _record_path(staging: Path, role: str) -> Path:
    return staging / f"{role}.json"


def _kept(staging: Path, role: str) -> EngineRecord | None:
    """An engine that an earlier run of the same compilation finished."""
    try:
        kept, _ = read_sealed(_record_path(staging, role), _KEPT, _FORMAT, "compile it again")
    except (FileNotFoundError, PackageError):
        return None
    with KnownHashes(package_folder(staging)) as hashes:
        damaged = files_fault(staging, kept.engine, "compile it again", hashes)
    return None if damaged else kept.engine


def _keep(staging: Path, role: str, engine: EngineRecord) -> None:
    """Write an engine's record beside it, in one step: from here on it is finished."""
    write_whole(_record_path(staging, role), seal(_KEPT, _Kept(engine)))

"""The text that the commands `targets` and `inspect NAME TARGET` print."""

from collections.abc import Iterator, Mapping, Sequence

from engine_build.columns import columns, size_text
from runtime.backends.rows import row_of
from runtime.errors import PackageError
from runtime.package.engine_record import EngineRecord, Narrowing
from runtime.package.manifest import Manifest, ModelPackage
from runtime.package.target import (
    FOLDER,
    Profile,
    Range,
    Target,
    read_target,
    stale_parts,
    target_directories,
)

_HEADINGS = ("TARGET", "GPU", "PRECISION", "ON DISK", "LORAS", "STATE")
_TOLD = 5
"""The most nodes that are named for a role that no CUDA graph can hold."""
_ENGINE_HEADINGS = ("ROLE", "PRECISION", "ON DISK", "REFITTABLE", "ERROR", "ALLOWED", "BUILT IN")


def targets_table(package: ModelPackage) -> str:
    """One line for each target of a package, and for each compilation that was interrupted."""
    name = package.path.name
    rows: list[Sequence[str]] = [_HEADINGS]
    faults = []
    for path in target_directories(package.path):
        try:
            rows.append(_row(read_target(path), package.manifest))
        except PackageError as error:
            faults.append(f"{path.name}  DAMAGED  {error}")
    unfinished = sorted((package.path / FOLDER).glob(".*.compiling"))
    faults += [
        f"{path.name[1:].removesuffix('.compiling')}  UNFINISHED  "
        "the command that began it goes on where it stopped"
        for path in unfinished
    ]
    if len(rows) == 1 and not faults:
        return f"{name} has no targets; compile one with: engine-build compile {name}"
    return "\n".join([*(columns(rows) if len(rows) > 1 else []), *faults])


def describe_target(package: ModelPackage, target: Target) -> str:
    """All that a person may want to know about a target; a state of `stale` says that the package
    holds other files than the target was compiled from. Raises PackageError for a damaged target.
    """
    record = target.record
    for role in sorted(record.engines):
        fault = target.fault(role)
        if fault:
            raise PackageError(fault)
    return "\n".join(
        [
            *columns(list(_facts(target, package.manifest))),
            "",
            *columns([_ENGINE_HEADINGS, *(_engine(target, role) for role in record.engines)]),
            "",
            *(line for role in record.engines for line in _profiles(target, role)),
            *(line for role, engine in record.engines.items() for line in _times(role, engine)),
            *fusions(target),
            *narrowed(target),
            *uncaptured(target),
            "",
            f"every engine is as it was compiled; identity {record.identity.digest}",
        ]
    )


def fusions(target: Target) -> Iterator[str]:
    """A sentence for each role with the operators that others were fused into, and what no
    fusion fitted."""
    for role, engine in target.record.engines.items():
        if engine.fused or engine.unfused:
            left = f"; left as they were: {_counted(engine.unfused)}" if engine.unfused else ""
            yield f"{role}: fused into {_counted(engine.fused) or 'nothing'}{left}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def narrowed(target: Target) -> Iterator[str]:
    """A sentence for each role whose activations decided its precision, with their magnitude."""
    for role, engine in target.record.engines.items():
        if engine.narrowing is not None:
            yield f"{role}: {narrowing_text(engine.narrowing)}"


def narrowing_text(found: Narrowing) -> str:
    """A sentence on the precision that activations decided."""
    in_stream, elsewhere = _magnitude(found.in_stream), _magnitude(found.elsewhere)
    seen = f"the largest activations seen are {in_stream} in the stream of residuals, "
    seen += f"{elsewhere} elsewhere"
    if found.precision == "fp32":
        return f"fp32, since fp16 cannot hold the activations, even with a scaled stream; {seen}"
    scale = f"with the stream scaled by 2^-{found.exponent}" if found.exponent else "unscaled"
    return f"{found.precision}, {scale}; {seen}"


def _magnitude(found: float | None) -> str:
    return "infinite or NaN" if found is None else f"{found:.3g}"


def uncaptured(target: Target) -> Iterator[str]:
    """A sentence for each role that no CUDA graph can hold, with the nodes that are why."""
    for role, engine in target.record.engines.items():
        if engine.uncaptured:
            told = engine.uncaptured[:_TOLD]
            more = len(engine.uncaptured) - len(told)
            rest = f"; and {more} nodes more" if more else ""
            yield f"{role}: runs without a CUDA graph, which cannot hold {'; '.join(told)}{rest}"


def _row(target: Target, manifest: Manifest) -> tuple[str, ...]:
    record = target.record
    identity = record.identity
    refittable = any(engine.refittable for engine in identity.engines.values())
    return (
        target.name,
        identity.compute_capability,
        identity.engines["denoiser"].precision,
        size_text(sum(engine.graph_bytes for engine in record.engines.values())),
        "yes" if refittable else "no",
        state(target, manifest),
    )


def state(target: Target, manifest: Manifest) -> str:
    """The state of a target in a few words: verified, stale, failed."""
    identity = target.record.identity
    if fault := row_of(identity.backend).gpu_fault(identity.compute_capability):
        return fault
    stale = stale_parts(target.record, manifest)
    if stale:
        return f"stale: {'; '.join(stale)}"
    failed = [
        role
        for role, engine in target.record.engines.items()
        if engine.check is not None and not engine.check.passed
    ]
    if failed:
        return f"failed its check: {', '.join(failed)}"
    return "verified" if target.record.verified else "not verified"


def _facts(target: Target, manifest: Manifest) -> Iterator[tuple[str, str]]:
    record, identity = target.record, target.record.identity
    yield "target", target.name
    yield "path", str(target.path)
    yield "compiled by", f"{identity.backend} {identity.backend_version}, on {record.compiled_on}"
    yield "for", identity.compute_capability
    yield "state", state(target, manifest)
    yield "made by", record.command


def _engine(target: Target, role: str) -> tuple[str, ...]:
    engine, identity = target.record.engines[role], target.record.identity.engines[role]
    check = engine.check
    return (
        role,
        engine.precision(identity.precision),
        size_text(engine.graph_bytes),
        f"{len(identity.refittable)} weights" if identity.refittable else "-",
        "-" if check is None else f"{check.largest_error:.1e}",
        "-" if check is None else f"{check.tolerance:.1e}",
        f"{engine.build_seconds:.1f} s, {engine.build_peak_gb:.1f} GB",
    )


def _profiles(target: Target, role: str) -> Iterator[str]:
    for number, profile in enumerate(target.record.identity.engines[role].profiles):
        yield f"{role}, profile {number}: {_profile(profile)}"


def _profile(profile: Profile) -> str:
    return ", ".join(f"{axis} {_range(extents)}" for axis, extents in sorted(profile.items()))


def _range(extents: Range) -> str:
    if extents.smallest == extents.largest:
        return str(extents.best)
    return f"{extents.smallest} to {extents.largest} (best {extents.best})"


def _times(role: str, engine: EngineRecord) -> Iterator[str]:
    for time in engine.step_times:
        axes = ", ".join(f"{axis} {extent}" for axis, extent in sorted(time.axes.items()))
        yield f"{role}, {axes}: {time.milliseconds:.2f} ms"

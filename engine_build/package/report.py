"""The output of the commands `list` and `inspect`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine_build.columns import columns, size_text
from engine_build.package.memory import memory_text
from runtime.errors import PackageError
from runtime.package.manifest import (
    DEMO,
    Defaults,
    Manifest,
    MatrixPreview,
    ModelPackage,
    RoleRecord,
    package_directories,
    read_manifest,
)

_HEADINGS = ("NAME", "FAMILY", "SIZE", "STEPS", "CFG", "SAMPLER", "ON DISK", "DESCRIPTION")


def table(engines: Path) -> str:
    """One line for each package; for a damaged package, its fault.

    Manifests and sizes of files are checked here; `inspect` checks every hash.
    """
    rows: list[Sequence[str]] = [_HEADINGS]
    faults = []
    for path in package_directories(engines):
        try:
            rows.append(_row(path))
        except PackageError as error:
            faults.append(f"{path.name}  DAMAGED  {error}")
    if len(rows) == 1 and not faults:
        return (
            f"no model packages in {engines}; build one with: engine-build build SOURCE --name "
            f"NAME. {DEMO.name} comes with Calotype: {DEMO}"
        )
    lines = columns(rows) if len(rows) > 1 else []
    return "\n".join([*lines, *faults])


def describe(package: ModelPackage) -> str:
    """A description of a package whose files were checked, for people."""
    manifest = package.manifest
    return "\n".join(
        [
            *columns(list(_facts(manifest, package.path))),
            "",
            *columns([_ROLE_HEADINGS, *(_role(manifest, name) for name in manifest.roles)]),
            "",
            memory_text(manifest),
            "",
            f"every file is as it was built; digest {package.digest}",
        ]
    )


_ROLE_HEADINGS = (
    "ROLE",
    "WEIGHTS",
    "STORED AS",
    "PARAMETERS",
    "CHECKED",
    "LARGEST ERROR",
    "ALLOWED",
)


def _row(path: Path) -> tuple[str, ...]:
    manifest, _ = read_manifest(path)
    for name, record in {**manifest.files, **manifest.external_files}.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != record.size_bytes:
            raise PackageError(f"{file}: gone or cut off; build the package again")
    defaults = manifest.defaults
    size = sum(record.size_bytes for record in manifest.files.values())
    return (
        path.name,
        manifest.family,
        f"{defaults.width}x{defaults.height}",
        str(defaults.steps),
        _guidance(defaults),
        defaults.sampler,
        size_text(size),
        manifest.description,
    )


def _facts(manifest: Manifest, path: Path) -> Iterator[tuple[str, str]]:
    limits, defaults, preview = manifest.limits, manifest.defaults, manifest.preview
    yield "name", manifest.name
    yield "description", manifest.description or "-"
    yield "family", manifest.family
    yield "path", str(path)
    yield "source", f"{manifest.source.kind}: {manifest.source.reference}"
    if manifest.source.revision is not None:
        yield "revision", manifest.source.revision
    if manifest.source.sha256 is not None:
        yield "source's sha256", manifest.source.sha256
    for file in manifest.external_files:
        yield "weights in place", file
    yield "sizes", f"{limits.min_size} to {limits.max_size}, multiples of {limits.multiple_of}"
    yield "at once", f"{limits.max_batch} samples, {limits.max_evaluations} evaluations"
    size = f"{defaults.width}x{defaults.height}"
    sampling = f"{defaults.steps} steps, {defaults.sampler}, {defaults.schedule}"
    yield "defaults", f"{size}, {sampling}, cfg {_guidance(defaults)}"
    if isinstance(preview, MatrixPreview):
        yield "previews", f"by a matrix that explains {preview.explained:.0%} of the variance"
    else:
        yield "previews", "by a small decoder"
    yield "scheduler", str(manifest.scheduler.get("_class_name", "-"))
    yield "options", ", ".join(f"{key}={value}" for key, value in manifest.family_options.items())
    yield "built with", ", ".join(f"{key} {value}" for key, value in manifest.built_with.items())


def _role(manifest: Manifest, name: str) -> tuple[str, ...]:
    role = manifest.roles[name]
    return (
        name,
        size_text(role.weights_bytes),
        _dtypes(role),
        str(len(role.parameters)),
        "whole" if role.check.reduced is None else "at reduced size",
        f"{role.check.largest_error:.1e}",
        f"{role.check.tolerance:.1e}",
    )


def _guidance(defaults: Defaults) -> str:
    return "-" if defaults.cfg_scale is None else f"{defaults.cfg_scale:g}"


def _dtypes(role: RoleRecord) -> str:
    return "+".join(sorted({parameter.dtype for parameter in role.parameters.values()}))

"""Targets of a package as the runtime's tests need them: their engines are plans of the fake."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from engine_build.target.onnxruntime_cuda.prelude import split_conditioning
from engine_build.target.onnxruntime_cuda.variants import write_variants
from runtime.package.backend_name import BackendName
from runtime.package.engine_record import (
    EngineCheck,
    EngineRecord,
    PreludeRecord,
    StepTime,
    Variant,
    VariantRecord,
)
from runtime.package.file_record import record_file
from runtime.package.manifest import HEIGHT, WIDTH, AxisRecord, Manifest, read_manifest
from runtime.package.target import (
    FOLDER,
    EngineIdentity,
    Profile,
    Range,
    Target,
    TargetIdentity,
    TargetRecord,
    graph_sha256,
    read_target,
    weights_sha256,
    write_target,
)

PASSED = EngineCheck(largest_error=1e-3, tolerance=1e-2, outputs={})


@dataclass(frozen=True)
class Made:
    """The description of a target to make."""

    backend: BackendName = "tensorrt"
    version: str = "11.4.0"
    compute_capability: str = "sm_89"
    sizes: tuple[tuple[int, int], ...] = ((128, 128),)
    """Width and height in pixels."""
    samples: int = 1
    evaluations: tuple[int, ...] = (2, 1)
    """How many a single sample may have: a profile for each."""
    texts: int = 4
    """How many texts an encoder reads at once."""
    fixed_weights: bool = False
    check: EngineCheck | None = PASSED
    milliseconds: float | None = None


def add_target(package: Path, made: Made) -> Target:
    """Write a target of the package; its engines take what `made` says."""
    manifest, _ = read_manifest(package)
    engines = {role: _identity(manifest, role, made) for role in manifest.roles}
    identity = TargetIdentity(made.backend, made.version, made.compute_capability, engines)
    folder = package / FOLDER / identity.name
    folder.mkdir(parents=True)
    records = {role: _engine(package, folder, role, engines[role], made) for role in engines}
    record = TargetRecord(
        identity=identity,
        engines=records,
        compiled_on="a test",
        command=f"engine-build compile {manifest.name} --backend {made.backend}",
    )
    write_target(folder, record)
    return read_target(folder)


def _identity(manifest: Manifest, role: str, made: Made) -> EngineIdentity:
    record = manifest.roles[role]
    matrices = [each.initializer for each in record.parameters.values() if each.replaceable]
    adapted = role.startswith("text_encoder") or role == "denoiser"
    return EngineIdentity(
        graph_sha256=graph_sha256(record, manifest),
        weights_sha256=weights_sha256(record, manifest),
        precision=record.precision,
        profiles=tuple(_profiles(manifest, role, made)),
        refittable=tuple(sorted(matrices)) if adapted and not made.fixed_weights else (),
        flags=(),
    )


def _profiles(manifest: Manifest, role: str, made: Made) -> Sequence[Profile]:
    axes = manifest.roles[role].axes
    others = {"batch", "evaluations", HEIGHT, WIDTH}
    text = {name: _text(axis) for name, axis in axes.items() if name not in others}
    if HEIGHT not in axes:
        return [{"batch": Range(1, 1, made.texts), **text}]
    scale = manifest.latents.scale_factor
    fixed = [
        {
            HEIGHT: Range(height // scale, height // scale, height // scale),
            WIDTH: Range(width // scale, width // scale, width // scale),
        }
        for width, height in made.sizes
    ]
    if "evaluations" not in axes:
        return [{**size, "batch": Range(1, 1, 1)} for size in fixed]
    if made.samples == 1:
        alone = Range(1, 1, 1)
        return [
            {**size, **text, "batch": alone, "evaluations": Range(count, count, count)}
            for size in fixed
            for count in made.evaluations
        ]
    batches = {
        "batch": Range(1, 1, made.samples),
        "evaluations": Range(1, 2, 2 * made.samples),
    }
    return [{**size, **text, **batches} for size in fixed]


def _text(axis: AxisRecord) -> Range:
    usual = axis.usual or 1
    if axis.maximum is None:
        return Range(usual, usual, 2 * usual)
    return Range(axis.minimum, usual, axis.maximum)


def _engine(
    package: Path, folder: Path, role: str, identity: EngineIdentity, made: Made
) -> EngineRecord:
    if made.backend == "onnxruntime-cuda":
        return _compiled(package, folder, role, identity, made)
    path = folder / f"{role}.engine"
    plan = {
        "package": str(package),
        "role": role,
        "profiles": [
            {
                name: [extent.smallest, extent.best, extent.largest]
                for name, extent in profile.items()
            }
            for profile in identity.profiles
        ],
        "refittable": identity.refittable,
    }
    path.write_text(json.dumps(plan))
    return _record(path, role, made)


def _compiled(
    package: Path, folder: Path, role: str, identity: EngineIdentity, made: Made
) -> EngineRecord:
    """A compiled graph would be fused; the package's own computes the same."""
    manifest, _ = read_manifest(package)
    record = manifest.roles[role]

    def variants(graph: Path) -> Mapping[Variant, VariantRecord]:
        return write_variants(graph, record) if identity.refittable else {}

    path, beside = folder / f"{role}.onnx", folder / f"{role}.prelude.onnx"
    model = ir.load(package / path.name)
    prelude = split_conditioning(model, record)
    path.write_bytes(ir.to_proto(model).SerializeToString())
    engine = replace(_record(path, role, made), variants=variants(path))
    if prelude is None:
        return engine
    beside.write_bytes(ir.to_proto(prelude).SerializeToString())
    return replace(
        engine, prelude=PreludeRecord(beside.name, record_file(beside), variants(beside))
    )


def _record(path: Path, role: str, made: Made) -> EngineRecord:
    record = EngineRecord(
        file=path.name,
        content=record_file(path),
        inputs={},
        outputs={},
        build_seconds=1.0,
        build_peak_gb=1.0,
        check=made.check,
    )
    if role == "denoiser" and made.milliseconds is not None:
        record = replace(record, step_times=(StepTime({"batch": 1}, made.milliseconds),))
    return record

"""TensorRT as the compiler of a target's engines."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from engine_build.progress import Phases
from engine_build.target.reference import Reference
from engine_build.target.tensorrt.flags import REFIT
from engine_build.target.tensorrt.job import EngineJob
from engine_build.target.tensorrt.process import run_job
from runtime.backends.tensorrt.flavour import Flavour, installed_flavour
from runtime.package.backend_name import BackendName
from runtime.package.engine_record import EngineRecord
from runtime.package.file_record import record_file
from runtime.package.manifest import ModelPackage, Precision
from runtime.package.target import Target, TargetIdentity


@dataclass(frozen=True, slots=True)
class TensorRtCompiler:
    """One flavour of TensorRT, each engine compiled in a process of its own."""

    flavour: Flavour

    @classmethod
    def installed(cls, name: BackendName) -> Self:
        """The compiler of a flavour. Raises BackendError where the flavour is not installed."""
        return cls(installed_flavour(name))

    @property
    def version(self) -> str:
        """The flavour's version."""
        return self.flavour.version

    @property
    def names_gpus(self) -> bool:
        """True where the flavour compiles for a GPU by its name, with no GPU at hand."""
        return self.flavour.names_gpus

    @property
    def refits_without_gpu(self) -> bool:
        """False: no flavour makes engines with replaceable weights with no GPU at hand."""
        return False

    def compile(
        self,
        reference: Reference,
        identity: TargetIdentity,
        role: str,
        folder: Path,
        phases: Phases,
    ) -> EngineRecord:
        """Write `folder/ROLE.engine`. Raises BuildError."""
        job = engine_job(reference.package, identity, role, folder)
        compiled = run_job(job, lambda phase: phases.show(phase.name, phase.step, phase.steps))
        path = Path(job.engine)
        return EngineRecord(
            file=path.name,
            content=record_file(path),
            inputs=compiled.inputs,
            outputs=compiled.outputs,
            build_seconds=compiled.seconds,
            build_peak_gb=compiled.peak_gb,
        )

    def check(
        self,
        reference: Reference,
        role: str,
        precision: Precision,
        folder: Path,
        phases: Phases,
    ) -> None:
        """Check nothing: no engine runs without its GPU."""


def engine_job(
    package: ModelPackage, identity: TargetIdentity, role: str, folder: Path
) -> EngineJob:
    """The job of a child process that compiles one role."""
    record, engine = package.manifest.roles[role], identity.engines[role]
    timings = f"{identity.backend}-{identity.backend_version}-{identity.compute_capability}.timing"
    return EngineJob(
        backend=identity.backend,
        role=role,
        graph=str(package.file(record.graph).resolve()),
        weights_folder=str(package.weights_folder(role)),
        parameters=tuple(each.initializer for each in record.parameters.values()),
        inputs=record.inputs,
        precision=engine.precision,
        profiles=engine.profiles,
        refittable=engine.refittable,
        flags=engine.flags,
        compute_capability=identity.compute_capability,
        timing_cache=str((package.path.parent / f".{timings}").resolve()),
        engine=str((folder / f"{role}.engine").resolve()),
    )


def fixed_target(package: ModelPackage, target: Target, role: str, folder: Path) -> Target | None:
    """A target in `folder` with the role's engine alone, compiled with weights that cannot be
    replaced; None for an engine whose weights are fixed already. Raises BuildError.
    """
    record, identity = target.record, target.record.identity
    engine = identity.engines[role]
    if REFIT not in engine.flags:
        return None
    flags = tuple(flag for flag in engine.flags if flag != REFIT)
    fixed = replace(identity, engines={role: replace(engine, refittable=(), flags=flags)})
    job = engine_job(package, fixed, role, folder)
    run_job(job, lambda _: None)
    path = Path(job.engine)
    made = replace(record.engines[role], file=path.name, content=record_file(path))
    return Target(folder, replace(record, identity=fixed, engines={role: made}))

"""The optimised graphs of ONNX Runtime's CUDA provider as the engines of a target.

A graph is the same for every GPU and takes any size, and can be written on any machine. Its target
is still for one GPU, since it is verified on one, at the sizes that it is to serve. Where no GPU is
at hand to verify it, the graph is compared on the CPU with the package's own before it is kept, on
the inputs of a real picture.
"""

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from engine_build.progress import Phases
from engine_build.target.onnxruntime_cuda.check import check_compiled
from engine_build.target.onnxruntime_cuda.compiler import (
    CompiledGraph,
    compile_role,
    compiled_graphs,
)
from engine_build.target.onnxruntime_cuda.narrowing import narrowing
from engine_build.target.onnxruntime_cuda.variants import write_variants
from engine_build.target.reference import Reference
from runtime.errors import BackendError, BuildError
from runtime.package.backend_name import BackendName
from runtime.package.engine_record import EngineRecord, PreludeRecord, Variant, VariantRecord
from runtime.package.file_record import record_file
from runtime.package.manifest import Precision, RoleRecord
from runtime.package.target import TargetIdentity

# Two distributions of ONNX Runtime with the same version numbers; only one can be installed.
_DISTRIBUTIONS = ("onnxruntime-gpu", "onnxruntime")


@dataclass(frozen=True, slots=True)
class OnnxRuntimeCudaCompiler:
    """Optimises graphs with no GPU and no CUDA."""

    version: str
    names_gpus: bool = True
    refits_without_gpu: bool = True

    @classmethod
    def installed(cls, _name: BackendName) -> Self:
        """The compiler of the installed ONNX Runtime. Raises BackendError where none is."""
        for name in _DISTRIBUTIONS:
            try:
                return cls(version(name))
            except PackageNotFoundError:
                continue
        raise BackendError("onnxruntime-cuda: install it with: pip install onnxruntime-gpu")

    def compile(
        self,
        reference: Reference,
        identity: TargetIdentity,
        role: str,
        folder: Path,
        phases: Phases,
    ) -> EngineRecord:
        """Write `folder/ROLE.onnx`, its prelude where it has one, and the variants of both where
        the role's weights can be replaced.

        Raises BuildError, and BackendError where the reference cannot be drawn.
        """
        package = reference.package
        wanted, record = identity.engines[role], package.manifest.roles[role]
        narrowed = None
        if (record.precision, wanted.precision) == ("fp32", "fp16"):
            phases.show("measuring its activations", 0, 1)
            narrowed = narrowing(reference, role)
        started = time.monotonic()
        phases.show("optimising", 0, 1)
        precision = narrowed.precision if narrowed else wanted.precision
        exponent = narrowed.exponent if narrowed else 0
        compiled = compile_role(package, role, precision, folder, exponent)
        engine = _engine_record(compiled, record if wanted.refittable else None, started)
        return replace(engine, narrowing=narrowed)

    def check(
        self,
        reference: Reference,
        role: str,
        precision: Precision,
        folder: Path,
        phases: Phases,
    ) -> None:
        """Run the graph on the CPU. Raises BuildError where its results are not the package's."""
        calls = reference.calls[role]
        phases.show("checking on the CPU", 0, 1)
        graphs = compiled_graphs(folder, role)
        check = check_compiled(reference.package, role, graphs, precision, calls)
        if not check.passed:
            raise BuildError(
                f"{role}: optimising its graph changed what it computes: it is off by "
                f"{check.largest_error:.1e}, allowed is {check.tolerance:.1e}"
            )


def _engine_record(
    compiled: CompiledGraph, adaptable: RoleRecord | None, started: float
) -> EngineRecord:
    """The record of compiled graphs, begun at `started` on the monotonic clock.

    Writes the variants of each graph where `adaptable` is the graphs' role; None stands for weights
    that cannot be replaced.
    """

    def variants(graph: Path) -> Mapping[Variant, VariantRecord]:
        return {} if adaptable is None else write_variants(graph, adaptable)

    prelude = None
    if (path := compiled.prelude) is not None:
        prelude = PreludeRecord(path.name, record_file(path), variants(path))
    return EngineRecord(
        file=compiled.path.name,
        content=record_file(compiled.path),
        inputs=compiled.inputs,
        outputs=compiled.outputs,
        build_seconds=round(time.monotonic() - started, 1),
        build_peak_gb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
        fused=compiled.fused,
        unfused=compiled.unfused,
        uncaptured=tuple(str(refusal) for refusal in compiled.uncaptured),
        variants=variants(compiled.path),
        prelude=prelude,
    )

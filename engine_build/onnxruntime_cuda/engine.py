"""The optimised graphs of ONNX Runtime's CUDA provider as the engines of a target.

A graph is the same for every GPU and takes any size; a target of it is still for one GPU, since it
is verified on one, at the sizes that it is to serve. It is written anywhere. Before it is kept it
is held to the package's own graph on the CPU, on the inputs of a real picture.
"""

import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from engine_build.capture import Call, captured_calls
from engine_build.onnxruntime_cuda.check import check_role
from engine_build.onnxruntime_cuda.compiler import compile_role
from engine_build.progress import Phases
from engine_build.targets import served_sizes
from runtime.errors import BackendError, BuildError
from runtime.manifest import ModelPackage, record_file
from runtime.target import EngineRecord, TargetIdentity

# Releases of one version, of which only one can be installed.
_DISTRIBUTIONS = ("onnxruntime-gpu", "onnxruntime")


@dataclass(slots=True)
class OnnxRuntimeCudaCompiler:
    """Optimises graphs with no GPU and no CUDA."""

    version: str
    names_gpus: bool = True
    refits_without_gpu: bool = True
    _calls: Mapping[str, Sequence[Call]] = field(default_factory=dict)

    @classmethod
    def installed(cls) -> Self:
        """Raises BackendError where no ONNX Runtime is."""
        for name in _DISTRIBUTIONS:
            try:
                return cls(version(name))
            except PackageNotFoundError:
                continue
        raise BackendError("onnxruntime-cuda: install it with: pip install onnxruntime-gpu")

    def compile(
        self,
        package: ModelPackage,
        identity: TargetIdentity,
        role: str,
        folder: Path,
        phases: Phases,
    ) -> EngineRecord:
        """Write `folder/ROLE.onnx`. Raises BuildError, also where it changed what is computed."""
        started = time.monotonic()
        precision = identity.engines[role].precision
        phases.show("optimising", 0, 2)
        compiled = compile_role(package, role, precision, folder)
        phases.show("checking on the CPU", 1, 2)
        if not self._calls:
            sizes = served_sizes(identity, package.manifest)[:1]
            name = package.manifest.name
            self._calls = captured_calls(package.path.parent, name, sizes)
        check = check_role(package, role, compiled.path, precision, self._calls[role])
        if not check.passed:
            raise BuildError(
                f"{role}: optimising its graph changed what it computes: it is off by "
                f"{check.largest_error:.1e}, allowed is {check.tolerance:.1e}"
            )
        return EngineRecord(
            file=compiled.path.name,
            content=record_file(compiled.path),
            inputs=compiled.inputs,
            outputs=compiled.outputs,
            build_seconds=round(time.monotonic() - started, 1),
            build_peak_gb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
            uncaptured=tuple(str(refusal) for refusal in compiled.uncaptured),
        )

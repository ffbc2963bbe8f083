"""Who compiles a role's graph for a target: one compiler for each backend."""

from pathlib import Path
from typing import Protocol

from engine_build.progress import Phases
from engine_build.target.reference import Reference
from runtime.backends.tensorrt.flavour import FLAVOURS
from runtime.package.manifest import ModelPackage
from runtime.package.target import BackendName, EngineRecord, TargetIdentity


class Compiler(Protocol):
    """A backend's compiler, as it is installed here."""

    @property
    def version(self) -> str:
        """Of the backend: an engine is for this one only."""
        ...

    @property
    def names_gpus(self) -> bool:
        """Whether it compiles for GPUs that are named, with none at hand."""
        ...

    @property
    def refits_without_gpu(self) -> bool:
        """Whether what it compiles with no GPU at hand can have its weights replaced."""
        ...

    def compile(
        self,
        package: ModelPackage,
        identity: TargetIdentity,
        role: str,
        folder: Path,
        phases: Phases,
    ) -> EngineRecord:
        """Write a role's engine into `folder`. Raises BuildError."""
        ...

    def check(
        self,
        reference: Reference,
        identity: TargetIdentity,
        role: str,
        folder: Path,
        phases: Phases,
    ) -> None:
        """Hold the engine in `folder` to the reference, as far as no GPU is needed for that.

        Raises BuildError for one that is further off than it may be.
        """
        ...


def compiler_for(backend: BackendName) -> Compiler:
    """A backend's compiler. Raises BackendError where it is not here."""
    if backend in FLAVOURS:
        from engine_build.target.tensorrt.engine import TensorRtCompiler

        return TensorRtCompiler.installed(backend)
    from engine_build.target.onnxruntime_cuda.engine import OnnxRuntimeCudaCompiler

    return OnnxRuntimeCudaCompiler.installed()

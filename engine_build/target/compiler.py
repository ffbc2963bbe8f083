"""The compilers of targets, a row for each backend.

Nothing is imported here of a vendor; a row's functions do that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine_build.progress import Phases
from engine_build.target.onnxruntime_cuda.flags import cuda_flags
from engine_build.target.reference import Reference
from engine_build.target.tensorrt.flags import rtx_flags, tensorrt_flags
from runtime.package.manifest import ModelPackage
from runtime.package.target import EngineRecord, Target, TargetIdentity


class Compiler(Protocol):
    """A backend's compiler, as it is installed here."""

    @property
    def version(self) -> str:
        """The backend's version; an engine is for this version only."""
        ...

    @property
    def names_gpus(self) -> bool:
        """True where the backend compiles for a GPU by its name, with no GPU at hand."""
        ...

    @property
    def refits_without_gpu(self) -> bool:
        """True where engines compiled with no GPU at hand can have their weights replaced."""
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

        Raises BuildError for an engine that is further off than it may be.
        """
        ...


class EngineFlags(Protocol):
    """The flags that a backend compiles an engine with, in the order of the engine's identity."""

    def __call__(self, *, refittable: bool, tf32: bool) -> tuple[str, ...]:
        """`refittable`: weights can be replaced; `tf32`: fp32 may be computed with TF32."""
        ...


class FixedTarget(Protocol):
    """Compiles a role's engine of a target once more, with weights that cannot be replaced."""

    def __call__(
        self, package: ModelPackage, target: Target, role: str, folder: Path
    ) -> Target | None:
        """A target in `folder` with that engine alone; None where the role's weights are fixed
        already. Raises BuildError."""
        ...


@dataclass(frozen=True, slots=True)
class CompilerRow:
    """One backend's compiler, as the code outside of its folder reads it."""

    installed: Callable[[], Compiler]
    """Imports the compiler's folder. Raises BackendError where its library is not installed."""
    flags: EngineFlags
    fixed: FixedTarget | None = None
    """Compiles an engine once more with fixed weights, to which verification compares the engine
    whose weights can be replaced; None for a backend that compiles both alike."""


def _tensorrt() -> Compiler:
    from engine_build.target.tensorrt.engine import TensorRtCompiler

    return TensorRtCompiler.installed("tensorrt")


def _tensorrt_rtx() -> Compiler:
    from engine_build.target.tensorrt.engine import TensorRtCompiler

    return TensorRtCompiler.installed("tensorrt-rtx")


def _tensorrt_fixed(
    package: ModelPackage, target: Target, role: str, folder: Path
) -> Target | None:
    from engine_build.target.tensorrt.engine import fixed_target

    return fixed_target(package, target, role, folder)


def _onnxruntime_cuda() -> Compiler:
    from engine_build.target.onnxruntime_cuda.engine import OnnxRuntimeCudaCompiler

    return OnnxRuntimeCudaCompiler.installed()


COMPILERS: Mapping[str, CompilerRow] = {
    "tensorrt": CompilerRow(_tensorrt, tensorrt_flags, _tensorrt_fixed),
    "tensorrt-rtx": CompilerRow(_tensorrt_rtx, rtx_flags, _tensorrt_fixed),
    "onnxruntime-cuda": CompilerRow(_onnxruntime_cuda, cuda_flags),
}
"""A row for each of `runtime.backends.rows.TARGET_BACKENDS`, by its name."""

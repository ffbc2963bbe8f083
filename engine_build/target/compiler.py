"""The compilers of targets, a row for each backend.

Nothing is imported here of a vendor; a row's functions do that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Protocol

from engine_build.progress import Phases
from engine_build.target.onnxruntime_cuda.flags import cuda_flags
from engine_build.target.reference import Reference
from engine_build.target.tensorrt.flags import rtx_flags, tensorrt_flags
from runtime.package.backend_name import BackendName
from runtime.package.engine_record import EngineRecord
from runtime.package.manifest import ModelPackage, Precision
from runtime.package.target import Target, TargetIdentity


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
        reference: Reference,
        identity: TargetIdentity,
        role: str,
        folder: Path,
        phases: Phases,
    ) -> EngineRecord:
        """Write a role's engine of the reference's package into `folder`. Raises BuildError, and
        BackendError where the reference cannot be drawn."""
        ...

    def check(
        self,
        reference: Reference,
        role: str,
        precision: Precision,
        folder: Path,
        phases: Phases,
    ) -> None:
        """Hold the engine in `folder` to the reference, as far as no GPU is needed for that.

        `precision` is what the engine computes in. Raises BuildError for an engine that is further
        off than it may be.
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
class Room:
    """The room that a compilation takes, relative to the size of weights."""

    memory: float
    """Of the largest role's weights: memory beside the mapped weights."""
    disk: float
    """Of all weights together: the size of the engines."""


@dataclass(frozen=True, slots=True)
class CompilerRow:
    """One backend's compiler, as the code outside of its folder reads it.

    Functions are named as `module:function`: the folder may import this module.
    """

    name: BackendName
    compiler: str
    """The function that gives the installed compiler by the backend's name."""
    flags: EngineFlags
    room: Room
    narrows: bool = False
    """True for a compiler that takes fp16, where real activations allow that, for roles that the
    package has in fp32 for their range."""
    fixed_compiler: str | None = None
    """The FixedTarget of a backend whose engines differ with whether weights can be replaced:
    they are held to their fixed form when they are verified."""

    def installed(self) -> Compiler:
        """The compiler, whose folder is imported here. Raises BackendError when its library is
        not installed."""
        compiler: Compiler = resolve_name(self.compiler)(self.name)
        return compiler

    @property
    def fixed(self) -> FixedTarget | None:
        """The FixedTarget of this backend; None where engines have no fixed form of their own."""
        if self.fixed_compiler is None:
            return None
        fixed: FixedTarget = resolve_name(self.fixed_compiler)
        return fixed


_TENSORRT = "engine_build.target.tensorrt.engine:TensorRtCompiler.installed"
_TENSORRT_FIXED = "engine_build.target.tensorrt.engine:fixed_target"
_ONNXRUNTIME = "engine_build.target.onnxruntime_cuda.engine:OnnxRuntimeCudaCompiler.installed"

# Measured on SDXL's UNet of 5.1 GB with two profiles (benchmarks/results/compile_sdxl_sm_89.json):
# 14.3 GB of memory beside the mapped weights, an engine of 5.3 GB.
_ENGINES_WITH_WEIGHTS = Room(memory=2.8, disk=1.1)

# A graph refers to the package's weights, and they stay on disk. Measured on the denoisers of
# published size: SDXL's 5.1 GB take 0.45 GB of memory, Flux's 23.8 take 0.65; graphs of 1 MB.
_GRAPHS = Room(memory=0.1, disk=0.001)

_ROWS = (
    CompilerRow(
        "tensorrt", _TENSORRT, tensorrt_flags, _ENGINES_WITH_WEIGHTS, fixed_compiler=_TENSORRT_FIXED
    ),
    CompilerRow(
        "tensorrt-rtx", _TENSORRT, rtx_flags, _ENGINES_WITH_WEIGHTS, fixed_compiler=_TENSORRT_FIXED
    ),
    CompilerRow("onnxruntime-cuda", _ONNXRUNTIME, cuda_flags, _GRAPHS, narrows=True),
)
COMPILERS: Mapping[str, CompilerRow] = {row.name: row for row in _ROWS}
"""A row for each of `runtime.backends.rows.TARGET_BACKENDS`, by its name."""

"""TensorRT, of whichever flavour: the one place that knows how they differ.

TensorRT 10 and 11 (`tensorrt`) and TensorRT for RTX (`tensorrt-rtx`) share nearly all of one API:

|                    | 10                    | 11              | for RTX                         |
|--------------------|-----------------------|-----------------|---------------------------------|
| types of a network | strong when asked for | strong          | strong                          |
| compiles for       | the GPU at hand       | the GPU at hand | GPUs that are named             |
| without any GPU    | compiles nothing      | compiles nothing| all but replaceable weights     |
| runs on            | the GPU at hand       | the GPU at hand | the RTX line: no Hopper         |
| kernels are made   | when compiled         | when compiled   | when first run, kept in a cache |
| allocates          | when opened           | when opened     | when run too, unless told not to|

Nothing else asks which one it is. `Api` lists every name of the vendor's module that we use, with
the types that stubs of `tensorrt_rtx` give; a test looks each of them up in the binaries of
TensorRT 10 and 11.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast

from runtime.errors import BackendError
from runtime.package.target import BACKENDS, BackendName

if TYPE_CHECKING:
    import tensorrt_rtx

    class Api:
        """The vendor's module, as far as we use it."""

        Builder = tensorrt_rtx.Builder
        BuilderFlag = tensorrt_rtx.BuilderFlag
        ComputeCapability = tensorrt_rtx.ComputeCapability
        DataType = tensorrt_rtx.DataType
        Dims = tensorrt_rtx.Dims
        ExecutionContextAllocationStrategy = tensorrt_rtx.ExecutionContextAllocationStrategy
        IBuilderConfig = tensorrt_rtx.IBuilderConfig
        ICudaEngine = tensorrt_rtx.ICudaEngine
        IExecutionContext = tensorrt_rtx.IExecutionContext
        ILogger = tensorrt_rtx.ILogger
        INetworkDefinition = tensorrt_rtx.INetworkDefinition
        IOptimizationProfile = tensorrt_rtx.IOptimizationProfile
        IProgressMonitor = tensorrt_rtx.IProgressMonitor
        MemoryPoolType = tensorrt_rtx.MemoryPoolType
        NetworkDefinitionCreationFlag = tensorrt_rtx.NetworkDefinitionCreationFlag
        OnnxParser = tensorrt_rtx.OnnxParser
        Refitter = tensorrt_rtx.Refitter
        Runtime = tensorrt_rtx.Runtime
        TensorIOMode = tensorrt_rtx.TensorIOMode
        TensorLocation = tensorrt_rtx.TensorLocation
        Weights = tensorrt_rtx.Weights

    class RunTimeCompilerApi(Api):
        """What a flavour that makes kernels at run time has besides."""

        DynamicShapesKernelSpecializationStrategy = (
            tensorrt_rtx.DynamicShapesKernelSpecializationStrategy
        )
        IRuntimeCache = tensorrt_rtx.IRuntimeCache
        IRuntimeConfig = tensorrt_rtx.IRuntimeConfig


@dataclass(frozen=True, slots=True)
class Flavour:
    """One of them, as it is installed here."""

    name: BackendName
    module: str
    version: str
    names_gpus: bool
    """Whether it compiles for GPUs that are named, with none at hand."""
    typed_on_request: bool
    """Whether a network has the graph's own types only when that is asked for."""
    compiles_at_run_time: bool
    """Whether kernels are made when an engine first runs, and so are not timed before."""

    def load(self) -> "Api":
        """The vendor's module. Raises BackendError where its libraries cannot be loaded."""
        try:
            return cast("Api", importlib.import_module(self.module))
        except (ImportError, OSError) as error:
            line = " ".join(str(error).split())
            raise BackendError(
                f"{self.name} {self.version}: its libraries cannot be loaded ({line}); "
                f"reinstall it with: pip install --force-reinstall {_DISTRIBUTIONS[self.name][0]}"
            ) from error


# The packages that bring each flavour, and its module.
_DISTRIBUTIONS: dict[BackendName, Sequence[str]] = {
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt-rtx": ("tensorrt-rtx",),
}
_MODULES: dict[BackendName, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}

FLAVOURS: tuple[BackendName, ...] = tuple(_MODULES)

ALLOCATING: frozenset[BackendName] = frozenset({"tensorrt-rtx"})
"""Flavours whose engines may allocate memory while they run, unless a flag says no when they are
compiled: https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/release-notes-1/1.2.html
"""

_RUNS_ON: dict[str, tuple[str, ...]] = {
    "tensorrt-rtx": ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121")
}
"""GPUs of flavours that do not run on all. Those of NVIDIA's support matrix, and sm_80, which its
page on engines names. An H200 (sm_90) refused an engine of 1.7.1.116 with "TensorRT-RTX does not
support this compute capability", and the compiler knows neither Hopper nor the data centre's
Blackwell (sm_100, sm_103):
https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix.html
https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html
"""


def gpu_fault(backend: str, compute_capability: str) -> str | None:
    """The reason why a backend runs nothing on a GPU, with the remedy; None where it may run."""
    known = _RUNS_ON.get(backend)
    if known is None or compute_capability in known:
        return None
    others = " or ".join(name for name in BACKENDS if name not in _RUNS_ON)
    return (
        f"{backend} does not run on {compute_capability}: it is for the RTX line "
        f"({', '.join(known)}); take --backend {others}"
    )


def installed_flavour(name: BackendName) -> Flavour:
    """The flavour `name` as it is installed; nothing of it is loaded. Raises BackendError."""
    for distribution in _DISTRIBUTIONS[name]:
        try:
            found = version(distribution)
        except PackageNotFoundError:
            continue
        rtx = name == "tensorrt-rtx"
        return Flavour(
            name=name,
            module=_MODULES[name],
            version=found,
            names_gpus=rtx,
            typed_on_request=not rtx and int(found.split(".")[0]) < 11,
            compiles_at_run_time=rtx,
        )
    raise BackendError(
        f"{name} is not installed; install it with: pip install {_DISTRIBUTIONS[name][0]}"
    )

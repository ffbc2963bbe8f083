"""TensorRT, of whichever flavour: the one place that knows how the flavours differ.

TensorRT 10 and 11 (`tensorrt`) and TensorRT for RTX (`tensorrt-rtx`) share nearly all of one API:

|                    | 10                    | 11              | for RTX                         |
|--------------------|-----------------------|-----------------|---------------------------------|
| types of a network | strong when asked for | strong          | strong                          |
| compiles for       | the GPU at hand       | the GPU at hand | GPUs that are named             |
| without any GPU    | compiles nothing      | compiles nothing| all but replaceable weights     |
| runs on            | the GPU at hand       | the GPU at hand | the RTX line: no Hopper         |
| kernels are made   | when compiled         | when compiled   | when first run, kept in a cache |
| allocates          | when opened           | when opened     | when run too, unless told not to|

No other module asks which flavour it has. `Api` lists every name of the vendor's module that we
use, with the types that stubs of `tensorrt_rtx` give; a test looks each of them up in the binaries
of TensorRT 10 and 11.
"""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from runtime.backends.rows import row_of
from runtime.errors import BackendError, in_one_line
from runtime.package.backend_name import BackendName

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
        """The further names of a flavour that makes kernels at run time."""

        DynamicShapesKernelSpecializationStrategy = (
            tensorrt_rtx.DynamicShapesKernelSpecializationStrategy
        )
        IRuntimeCache = tensorrt_rtx.IRuntimeCache
        IRuntimeConfig = tensorrt_rtx.IRuntimeConfig


@dataclass(frozen=True, slots=True)
class Flavour:
    """A flavour of TensorRT, as installed here."""

    name: BackendName
    module: str
    version: str
    names_gpus: bool
    """True where the flavour compiles for GPUs that are named, with no GPU at hand."""
    typed_on_request: bool
    """True where a network has the graph's own types only when a flag asks for them."""
    compiles_at_run_time: bool
    """True where kernels are made, and so first timed, at an engine's first run."""

    def load(self) -> "Api":
        """The vendor's module. Raises BackendError where its libraries cannot be loaded."""
        try:
            return cast("Api", importlib.import_module(self.module))
        except (ImportError, OSError) as error:
            line = in_one_line(error)
            distribution = row_of(self.name).distributions[0]
            raise BackendError(
                f"{self.name} {self.version}: its libraries cannot be loaded ({line}); "
                f"reinstall it with: pip install --force-reinstall {distribution}"
            ) from error


def installed_flavour(name: BackendName) -> Flavour:
    """The flavour `name` as it is installed; nothing of it is loaded. Raises BackendError."""
    found = row_of(name).installed_version()
    rtx = name == "tensorrt-rtx"
    return Flavour(
        name=name,
        module="tensorrt_rtx" if rtx else "tensorrt",
        version=found,
        names_gpus=rtx,
        typed_on_request=not rtx and int(found.split(".")[0]) < 11,
        compiles_at_run_time=rtx,
    )

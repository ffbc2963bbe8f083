"""TensorRT's module on a device, which all engines of a target share, and how engines open."""

import logging
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.device import Device
from runtime.backends.tensorrt.flavour import Flavour
from runtime.backends.tensorrt.log import VendorLog
from runtime.errors import BackendError, DeviceError
from runtime.files import write_whole

if TYPE_CHECKING:
    import tensorrt_rtx as trt

    from runtime.backends.tensorrt.flavour import Api, RunTimeCompilerApi

logger = logging.getLogger(__name__)

Made = TypeVar("Made")


@dataclass(frozen=True)
class Vendor:
    """TensorRT on a device that was found."""

    flavour: Flavour
    api: "Api"
    device: Device
    log: VendorLog
    runtime: "trt.Runtime"

    def deserialize(self, path: Path) -> "tuple[trt.ICudaEngine, int]":
        """Open an engine, whose weights go onto the device, where they take so many bytes.

        Raises BackendError.
        """
        cuda = self.device.cuda
        before = cuda.unaccounted()
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
            engine = self.made(lambda: self.runtime.deserialize_cuda_engine(content))
        if engine is None:
            raise BackendError(
                f"{path}: {self.flavour.name} {self.flavour.version} cannot open it: "
                f"{self.log.last_error}"
            )
        size_bytes = max(0, cuda.unaccounted() - before)
        cuda.account("weights", size_bytes)
        return engine, size_bytes

    def made(self, make: Callable[[], Made]) -> Made | None:
        """The object that the vendor makes, None where it makes none: the vendor is asked once more
        where memory could be given back, since its words do not always tell a lack of memory.
        """
        seen = self.device.cuda.releases
        # On failure the vendor returns None, which its stub does not say.
        made: Made | None = make()
        if made is None and self.device.cuda.release_spare(seen):
            made = make()
        return made

    def check(self, done: bool, role: str, what: str) -> None:  # noqa: FBT001 - the vendor's answer
        """Raises DeviceError where the vendor answered no."""
        if not done:
            raise DeviceError(f"{role}: {self.flavour.name} cannot {what}: {self.log.last_error}")


def open_vendor(flavour: Flavour, api: "Api", cuda: Cuda, *, captures: bool = True) -> Vendor:
    """TensorRT on the GPU of `cuda`, which has to be found first: with no GPU, TensorRT's runtime
    ends the process."""
    log = VendorLog(api)
    return Vendor(flavour, api, Device(cuda, captures=captures), log, api.Runtime(log.logger))


class Contexts:
    """Makes an engine's contexts, all over one workspace: they run one after another.

    By default, TensorRT gives each context a workspace as large as the largest profile's. Kernels
    that a flavour makes at run time are kept in a file beside the engine.
    """

    def __init__(self, vendor: Vendor, engine: "trt.ICudaEngine", role: str, kernels: Path) -> None:
        """`kernels` is the file of the kernels made at run time."""
        self._vendor = vendor
        self._engine = engine
        self._kernels = kernels
        self._workspace = vendor.device.cuda.allocate(engine.device_memory_size_v2, "workspaces")
        self._role = role
        self._config, self._cache = self._run_time_compiler()

    def make(self) -> "trt.IExecutionContext":
        """A context that has no shapes yet. Raises DeviceError."""
        user_managed = self._vendor.api.ExecutionContextAllocationStrategy.USER_MANAGED
        engine, config = self._engine, self._config
        if config is None:
            context = self._vendor.made(
                lambda: engine.create_execution_context(strategy=user_managed)
            )
        else:
            context = self._vendor.made(
                lambda: engine.create_execution_context(runtime_config=config)
            )
        self._vendor.check(context is not None, self._role, "make a context")
        assert context is not None
        context.set_device_memory(self._workspace.address, self._workspace.size_bytes)
        return context

    def free(self) -> None:
        """Give the workspace back; no context may be running."""
        self._vendor.device.cuda.free(self._workspace)

    def keep_kernels(self) -> None:
        """Write the kernels made at run time, so that the next start finds them."""
        if self._cache is None:
            return
        # The vendor's stub leaves out the buffer protocol, which the serialised cache has.
        kernels = memoryview(cast("Any", self._cache.serialize()))
        try:
            write_whole(self._kernels, kernels)
        except OSError as error:
            logger.warning("kernels of %s are not kept: %s", self._role, error)

    def _run_time_compiler(
        self,
    ) -> "tuple[trt.IRuntimeConfig | None, trt.IRuntimeCache | None]":
        if not self._vendor.flavour.compiles_at_run_time:
            return None, None
        api = cast("RunTimeCompilerApi", self._vendor.api)
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(
            api.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        # A graph would keep the stopgap kernels that it was captured with.
        config.dynamic_shapes_kernel_specialization_strategy = (
            api.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        cache: trt.IRuntimeCache = config.create_runtime_cache()
        if self._kernels.is_file() and not cache.deserialize(self._kernels.read_bytes()):
            logger.info("%s is of another version or GPU, and is made again", self._kernels)
        self._vendor.check(config.set_runtime_cache(cache), self._role, "use a cache of kernels")
        return config, cache

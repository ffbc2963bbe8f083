"""The GPUs of this machine. `find_devices` never raises: without a GPU, it returns the reason.

TensorRT's `Runtime` ends the process when it is used where there is no driver, so a GPU is looked
for here before anything of TensorRT's is touched. Looking makes no CUDA context, and so takes no
memory of the GPU.
"""

from dataclasses import dataclass
from typing import Any

from runtime.backends.device.cuda_bindings import NO_DRIVER, CudaBindings, load_bindings
from runtime.errors import BackendError


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that CUDA sees."""

    name: str
    compute_capability: str
    """For example `sm_89`."""
    memory_bytes: int
    driver: str
    """The newest CUDA version that the GPU's driver supports, such as `13.0`."""

    def __str__(self) -> str:
        return f"{self.name} ({self.compute_capability}, {self.memory_bytes / 1e9:.1f} GB)"


@dataclass(frozen=True, slots=True)
class Devices:
    """The GPUs that were found, or the reason why there is none."""

    gpus: tuple[Gpu, ...]
    """In CUDA's order, which `CUDA_VISIBLE_DEVICES` can change."""
    reason: str
    """The reason why there is no GPU, for people; empty where there is one."""

    @property
    def first(self) -> Gpu | None:
        """The GPU that engines run on: one worker, one GPU."""
        return self.gpus[0] if self.gpus else None


def find_devices(bindings: CudaBindings | None = None) -> Devices:
    """Look for GPUs; by the real bindings where none are given."""
    try:
        cuda = bindings or load_bindings()
        count = _answer(cuda, cuda.cudaGetDeviceCount())
        driver = _version(_answer(cuda, cuda.cudaDriverGetVersion()))
        found = [_answer(cuda, cuda.cudaGetDeviceProperties(index)) for index in range(count)]
    except BackendError as error:
        return Devices((), str(error))
    # The bindings themselves raise where a library is missing, with several kinds of errors.
    except (RuntimeError, OSError) as error:
        return Devices((), f"CUDA cannot be used: {' '.join(str(error).split())}")
    gpus = tuple(_gpu(properties, driver) for properties in found)
    return Devices(gpus, "" if gpus else "CUDA sees no GPU; look at CUDA_VISIBLE_DEVICES")


def _answer(cuda: CudaBindings, result: tuple[Any, Any]) -> Any:
    code, value = result
    if code == cuda.cudaError_t.cudaErrorInsufficientDriver and not _driver_version(cuda):
        raise BackendError(NO_DRIVER)
    if code != cuda.cudaError_t.cudaSuccess:
        _, words = cuda.cudaGetErrorString(code)
        raise BackendError(f"CUDA finds no GPU: {words.decode()}")
    return value


def _driver_version(cuda: CudaBindings) -> int:
    """0 where there is no driver; `cudaGetDeviceCount` gives an outdated driver the same error."""
    _, version = cuda.cudaDriverGetVersion()
    return version


def _gpu(properties: Any, driver: str) -> Gpu:
    return Gpu(
        name=properties.name.rstrip(b"\0").decode(),
        compute_capability=f"sm_{properties.major}{properties.minor}",
        memory_bytes=int(properties.totalGlobalMem),
        driver=driver,
    )


def _version(number: int) -> str:
    """CUDA writes 13.2 as 13020."""
    return f"{number // 1000}.{number % 1000 // 10}"

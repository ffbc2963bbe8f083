"""One GPU: its memory, with accounts of what it is used for; CUDA's errors become DeviceError here.

Pinned memory (`pinned`), streams and events (`stream`), graphs (`graph`) and kernels (`module`)
rest on this.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.backends.device.cuda_bindings import (
    CudaBindings,
    DriverBindings,
    load_bindings,
    load_driver,
)
from runtime.backends.device.runtimes import ReadError, loaded_runtimes
from runtime.backends.rows import CPU
from runtime.errors import BackendError, DeviceError


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """A piece of the device's memory."""

    address: int
    size_bytes: int
    use: str
    """The name of its use in the accounts, such as `weights`."""


class Cuda:
    """The first GPU that CUDA sees. Threads may share it."""

    def __init__(
        self,
        bindings: CudaBindings | None = None,
        driver: DriverBindings | None = None,
        runtimes: Callable[[], Iterable[ReadError]] = loaded_runtimes,
    ) -> None:
        """The real bindings where none are given; `runtimes` lists the other copies of CUDA's
        runtime in this process. Raises BackendError where there is no GPU.
        """
        self.bindings = bindings or load_bindings()
        self.driver = driver or load_driver()
        self._runtimes = runtimes
        self._used: Counter[str] = Counter()
        self._uploaded = 0
        self._spare: list[Callable[[], bool]] = []
        self._releases = 0
        self._lock = threading.Lock()
        self._releasing = threading.Lock()
        count = self.call("cudaGetDeviceCount", self.bindings.cudaGetDeviceCount())
        if not count:
            raise BackendError("CUDA sees no GPU; look at CUDA_VISIBLE_DEVICES")

    def call(self, what: str, result: tuple[Any, ...]) -> Any:
        """The values that a function of the bindings answered. Raises DeviceError for an error."""
        code, *values = result
        if code != self.bindings.cudaError_t.cudaSuccess:
            _, name = self.bindings.cudaGetErrorName(code)
            _, words = self.bindings.cudaGetErrorString(code)
            raise DeviceError(f"{what}: {name.decode()}: {words.decode()}")
        return values[0] if len(values) == 1 else tuple(values)

    def call_driver(self, what: str, result: tuple[Any, ...]) -> Any:
        """The same for a function of the driver's bindings. Raises DeviceError for an error."""
        code, *values = result
        if code != self.driver.CUresult.CUDA_SUCCESS:
            _, name = self.driver.cuGetErrorName(code)
            _, words = self.driver.cuGetErrorString(code)
            raise DeviceError(f"{what}: {name.decode()}: {words.decode()}")
        return values[0] if values else None

    def forget_errors(self) -> None:
        """Clear this thread's last error in every copy of CUDA's runtime in the process.

        Each copy keeps an error until a read: a library that reads the last error after its own
        kernel would take an older error of another library for that kernel's.
        """
        self.bindings.cudaGetLastError()
        for read_error in self._runtimes():
            read_error()

    @property
    def used(self) -> Mapping[str, int]:
        """Bytes of device memory in use, by purpose; CUDA's own memory is not counted."""
        with self._lock:
            return dict(+self._used)

    @property
    def uploaded_bytes(self) -> int:
        """The bytes that were copied from the host to the device so far."""
        return self._uploaded

    def count_upload(self, size_bytes: int) -> None:
        """Count a copy from the host to the device."""
        with self._lock:
            self._uploaded += size_bytes

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the device, whoever uses them."""
        free, total = self.call("cudaMemGetInfo", self.bindings.cudaMemGetInfo())
        return int(free), int(total)

    def unaccounted(self) -> int:
        """Bytes of the device in use that no account has: by CUDA, by other programs, and by
        vendors' libraries until `account` is told.
        """
        free, total = self.memory()
        return total - free - sum(self.used.values())

    def check_room(self, sizes: Mapping[str, int], remedy: str = "") -> None:
        """Refuse weights that cannot fit, before any is loaded; `sizes` are their bytes by role.

        Raises BackendError, with `remedy` first among its remedies. Runs need more than the
        weights: room for the weights is no promise.
        """
        seen = self.releases
        free, total = self.memory()
        needed = sum(sizes.values())
        if needed > free and self.release_spare(seen):
            free, total = self.memory()
        if needed > free:
            parts = ", ".join(f"{role} {size / 1e9:.2f}" for role, size in sorted(sizes.items()))
            raise BackendError(
                f"the engines take some {needed / 1e9:.2f} GB ({parts}), and {free / 1e9:.2f} of "
                f"{total / 1e9:.2f} GB of the GPU are free; {remedy}end other programs that use "
                f"it, compile a target of a narrower --precision, or draw with --backend {CPU}"
            )

    def account(self, use: str, size_bytes: int) -> None:
        """Count memory that a vendor's library allocated by itself, or freed (negative)."""
        with self._lock:
            self._used[use] += size_bytes

    def allocate(self, size_bytes: int, use: str) -> DeviceMemory:
        """Device memory, at least a byte. Raises BackendError that says what is missing."""
        seen = self.releases
        made = self.try_allocate(size_bytes, use)
        if made is None and self.release_spare(seen):
            made = self.try_allocate(size_bytes, use)
        if made is None:
            free, total = self.memory()
            raise BackendError(
                f"the GPU's memory does not hold {use}: {size_bytes / 1e9:.2f} GB are needed, "
                f"{free / 1e9:.2f} of {total / 1e9:.2f} GB are free; end other programs that use "
                "it, or serve fewer pictures at once with --max-batch"
            )
        return made

    def try_allocate(self, size_bytes: int, use: str) -> DeviceMemory | None:
        """Device memory, at least a byte; None where there is none."""
        size_bytes = max(1, size_bytes)
        code, address = self.bindings.cudaMalloc(size_bytes)
        if code == self.bindings.cudaError_t.cudaErrorMemoryAllocation:
            return None
        self.call("cudaMalloc", (code, address))
        self.account(use, size_bytes)
        return DeviceMemory(int(address), size_bytes, use)

    def on_shortage(self, release: Callable[[], bool]) -> Callable[[], None]:
        """Call `release` where memory is short, on any thread: give back memory that can be done
        without, and answer True if there was any. Returns a function that ends this.
        """
        with self._lock:
            self._spare.append(release)
        return lambda: self._spare.remove(release)

    @property
    def releases(self) -> int:
        """How often memory was short and some was given back."""
        return self._releases

    def release_spare(self, seen: int) -> bool:
        """Give back all memory that can be done without. True where there was some, or where
        another thread gave some back since `releases` was `seen`: what lacked memory may fit now.
        """
        with self._releasing:
            with self._lock:
                spare = list(self._spare)
            self._releases += sum(release() for release in spare) > 0
            return self._releases > seen

    def free(self, memory: DeviceMemory) -> None:
        """Give memory back. Waits for the device."""
        self.call("cudaFree", self.bindings.cudaFree(memory.address))
        self.account(memory.use, -memory.size_bytes)

"""Kernels of ours on a GPU."""

from typing import Any

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.stream import Stream


class Module:
    """A module of kernels, which the driver compiles for this GPU at loading."""

    def __init__(self, cuda: Cuda, image: bytes) -> None:
        """Load `image`, which is PTX. Raises DeviceError."""
        self._cuda = cuda
        cuda.memory()  # The driver works in the context that the runtime makes current with this.
        # The driver reads PTX as a null-terminated string.
        loaded = cuda.driver.cuModuleLoadData(image + b"\0")
        self._handle = cuda.call_driver("cuModuleLoadData", loaded)

    def launch(
        self,
        name: str,
        stream: Stream,
        grid: tuple[int, int],
        threads: int,
        arguments: tuple[tuple[int, ...], tuple[Any, ...]],
    ) -> None:
        """Enqueue a kernel: `grid` blocks of `threads` threads; `arguments` are values and C types.

        Raises DeviceError.
        """
        cuda, driver = self._cuda, self._cuda.driver
        found = driver.cuModuleGetFunction(self._handle, name.encode())
        function = cuda.call_driver(f"cuModuleGetFunction of {name}", found)
        launched = driver.cuLaunchKernel(
            function, *grid, 1, threads, 1, 1, 0, stream.address, arguments, 0
        )
        cuda.call_driver(f"cuLaunchKernel of {name}", launched)

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
        self._functions: dict[str, Any] = {}

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
        function = self._functions.get(name) or self._function(name)
        launched = self._cuda.driver.cuLaunchKernel(
            function, *grid, 1, threads, 1, 1, 0, stream.address, arguments, 0
        )
        self._cuda.call_driver(f"cuLaunchKernel of {name}", launched)

    def _function(self, name: str) -> Any:
        found = self._cuda.driver.cuModuleGetFunction(self._handle, name.encode())
        function = self._cuda.call_driver(f"cuModuleGetFunction of {name}", found)
        self._functions[name] = function
        return function

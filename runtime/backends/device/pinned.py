"""Host memory that the device can reach, for copies that do not wait."""

from ctypes import c_ubyte
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from runtime.backends.device.cuda import Cuda


class Pinned:
    """An array in host memory that the device can reach."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """The array's first content is undefined."""
        self._cuda = cuda
        size = max(1, prod(shape) * np.dtype(dtype).itemsize)
        self.address = int(cuda.call("cudaMallocHost", cuda.bindings.cudaMallocHost(size)))
        self.array: NDArray[Any] = _array_at(self.address, size, shape, dtype)

    def free(self) -> None:
        """Give the memory back; `array` must not be used any more."""
        self._cuda.call("cudaFreeHost", self._cuda.bindings.cudaFreeHost(self.address))


def _array_at(
    address: int, size_bytes: int, shape: tuple[int, ...], dtype: DTypeLike
) -> NDArray[Any]:
    content = np.ctypeslib.as_array((c_ubyte * size_bytes).from_address(address))
    stored = np.dtype(dtype)
    return content[: prod(shape) * stored.itemsize].view(stored).reshape(shape)

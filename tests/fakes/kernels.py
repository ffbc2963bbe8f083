"""Our kernels in NumPy, in the place of the code that a driver makes of their PTX.

A test runs the kernels' own source, compiled for the host, beside these.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from runtime.backends.low_rank import LowRankUpdate, Product
from runtime.package.tensors import Tensor

View = Callable[[int, int], NDArray[np.uint8]]
"""Device memory: an address, and so many bytes of it."""

Kernel = Callable[[View, tuple[int, ...]], None]
"""Runs on the values that it was launched with."""

_DTYPES = ("F32", "F16", "BF16")
_STORED = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_PRODUCT = np.dtype("<i8, <i8, <f4, <i4, <i4, <i4")


def _low_rank(view: View, values: tuple[int, ...]) -> None:
    """`low_rank.cu`."""
    address, base_address, begin, first, count, outputs, inputs, number = values

    def read(dtype: str, at: int, shape: tuple[int, int]) -> Tensor:
        size = shape[0] * shape[1] * np.dtype(_STORED[dtype]).itemsize
        return Tensor(dtype, view(at, size).view(_STORED[dtype]).reshape(shape))

    dtype = _DTYPES[number]
    base = read(dtype, base_address, (outputs, inputs))
    products = []
    table = view(begin + 32 * first, 32 * count).view(_PRODUCT)
    for up, down, scale, rank, stored_as, _ in table.tolist():
        factors = (begin + up, (outputs, rank)), (begin + down, (rank, inputs))
        products.append(Product(*(read(_DTYPES[stored_as], *each) for each in factors), scale))
    made = LowRankUpdate(base, tuple(products)).merged()
    read(dtype, address, (outputs, inputs)).values[:] = made.values


KERNELS: Mapping[str, Kernel] = {"low_rank": _low_rank}
"""The kernels by name."""

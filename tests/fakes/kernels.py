"""Our kernels in NumPy, in the place of the code that a driver makes of their PTX.

A test runs the kernels' own source, compiled for the host, beside these.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from runtime.package.tensors import Tensor, stored

View = Callable[[int, int], NDArray[np.uint8]]
"""Device memory: an address, and so many bytes of it."""

Kernel = Callable[[View, tuple[int, ...]], None]
"""Runs on the values that it was launched with."""

_STORED = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def _low_rank(dtype: str, view: View, values: tuple[int, ...]) -> None:
    """`low_rank.cu`."""
    address, up_address, down_address, outputs, inputs, rank = values
    up = view(up_address, outputs * rank * 4).view(np.float32).reshape(outputs, rank)
    down = view(down_address, rank * inputs * 4).view(np.float32).reshape(rank, inputs)
    size = outputs * inputs * np.dtype(_STORED[dtype]).itemsize
    weight = view(address, size).view(_STORED[dtype]).reshape(outputs, inputs)
    weight[:] = stored(Tensor(dtype, weight).fp32() + up @ down, dtype)


KERNELS: Mapping[str, Kernel] = {
    "low_rank_f32": partial(_low_rank, "F32"),
    "low_rank_f16": partial(_low_rank, "F16"),
    "low_rank_bf16": partial(_low_rank, "BF16"),
}

"""safetensors files that Calotype wrote, mapped into memory, and fp32 numbers in stored dtypes.

NumPy has no bf16: a bf16 tensor is an array of its bit patterns, `uint16`. The header is trusted:
files from elsewhere are checked in the build stage, and the files read here by their hashes.
https://huggingface.co/docs/safetensors
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# As they lie on disk, little endian.
_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}

READABLE = frozenset(_STORED)
"""The dtypes of the tensors that can be read here."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as it is stored: `values` of bf16 are bit patterns."""

    dtype: str
    """safetensors' name of the dtype."""
    values: NDArray[Any]

    @property
    def size_bytes(self) -> int:
        """The bytes of the values."""
        return self.values.nbytes

    def fp32(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """The tensor's numbers as fp32, in a new array."""
        if self.dtype == "BF16":
            return (self.values.astype(np.uint32) << 16).view(np.float32)
        # A number that is larger than all of fp32 is infinite there.
        with np.errstate(over="ignore"):
            return self.values.astype(np.float32)


def stored_bytes(shape: Sequence[int], dtype: str) -> int:
    """The bytes that a tensor of this shape and dtype, by safetensors' name, is stored in."""
    return prod(shape) * np.dtype(_STORED[dtype]).itemsize


def map_tensors(path: Path) -> dict[str, Tensor]:
    """A file's tensors by name, mapped read-only: a tensor's content is read when it is used."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    # Nothing can be mapped of a file whose tensors are empty.
    empty = path.stat().st_size == 8 + length
    content = np.empty(0, np.uint8) if empty else np.memmap(path, np.uint8, "r", offset=8 + length)
    return {name: _tensor(content, entry) for name, entry in header.items()}


def _tensor(content: NDArray[Any], entry: Mapping[str, object]) -> Tensor:
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    assert isinstance(dtype, str)
    assert isinstance(shape, list)
    assert isinstance(offsets, list)
    stored = content[offsets[0] : offsets[1]].view(_STORED[dtype])
    return Tensor(dtype, np.asarray(stored).reshape(shape))


def stored(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], dtype: str) -> NDArray[Any]:
    """fp32 numbers rounded to `dtype`, to nearest, ties to even; bf16 as bit patterns."""
    if dtype == "BF16":
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return values.astype(_STORED[dtype], copy=False)

"""Tensors copied by name from safetensors files into another, in small pieces, none loaded."""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from engine_build.checkpoint.weights import Layout, StoredTensor, read_header
from runtime.errors import BuildError
from runtime.package.tensors import stored_bytes

_PIECE = 16 * 2**20
# Tensors are mapped into memory as they lie: the first one begins on a cache line.
_ALIGNMENT = 64


def copy_tensors(
    tensors: Mapping[str, StoredTensor], target: Path, advance: Callable[[int], object]
) -> dict[str, StoredTensor]:
    """Write a safetensors file with these tensors under these names, without loading one.

    `advance` is called with the bytes of each piece that was copied. Returns where each tensor now
    lies. Raises BuildError when a source file ends too early.
    """
    # Large items first: each tensor is then aligned to its own item size.
    names = sorted(tensors, key=lambda name: (-stored_bytes((), tensors[name].dtype), name))
    header: dict[str, dict[str, object]] = {}
    position = 0
    for name in names:
        tensor = tensors[name]
        end = position + tensor.size_bytes
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(8 + len(encoded)) % _ALIGNMENT)
    with target.open("wb") as out:
        out.write(struct.pack("<Q", len(encoded)) + encoded)
        for name in names:
            for piece in read_pieces(tensors[name]):
                out.write(piece)
                advance(len(piece))
    return read_header(target)


def read_pieces(tensor: StoredTensor) -> Iterator[bytes]:
    """A tensor's bytes in their right order, in small pieces; a transposed tensor, in one piece.

    Raises BuildError when the file ends too early.
    """
    begin, end = tensor.offset, tensor.offset + tensor.size_bytes
    if tensor.layout is Layout.HALVES_SWAPPED:
        middle = begin + tensor.size_bytes // 2
        yield from _read(tensor.path, middle, end)
        yield from _read(tensor.path, begin, middle)
    elif tensor.layout is Layout.TRANSPOSED:
        item = f"u{stored_bytes((), tensor.dtype)}"
        stored = np.frombuffer(b"".join(_read(tensor.path, begin, end)), item)
        yield stored.reshape(tensor.shape[::-1]).T.tobytes()
    else:
        yield from _read(tensor.path, begin, end)


def _read(path: Path, begin: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(begin)
        while begin < end:
            piece = stream.read(min(end - begin, _PIECE))
            if not piece:
                raise BuildError(f"{path}: ended while it was read; fetch it again")
            yield piece
            begin += len(piece)

"""safetensors files without loading them: headers read, tensors copied by name in small pieces.

The format: eight bytes with the header's length (little endian), a JSON header that gives each
tensor's dtype, shape and place, then the tensors without gaps.
https://huggingface.co/docs/safetensors
"""

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import BuildError, SourceError
from runtime.package.tensors import stored_bytes

DTYPES = ("F32", "F16", "BF16")
"""The dtypes that a graph's weights may have, as safetensors names them."""

_PIECE = 16 * 2**20
_LARGEST_HEADER = 100 * 2**20
# Tensors are mapped into memory as they lie: the first one begins on a cache line.
_ALIGNMENT = 64


class Layout(Enum):
    """The rearrangement of bytes on disk that gives the tensor."""

    AS_STORED = "as stored"
    HALVES_SWAPPED = "halves swapped"
    """The second half of the rows lies first."""
    TRANSPOSED = "transposed"
    """A matrix that lies column by column."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor's place in a file."""

    path: Path
    offset: int
    """From the beginning of the file, in bytes."""
    size_bytes: int
    dtype: str
    shape: tuple[int, ...]
    """The tensor's own shape, whatever the layout."""
    layout: Layout = Layout.AS_STORED

    def rows(self, begin: int, end: int) -> "StoredTensor":
        """The rows from `begin` to before `end`: a range of the same file."""
        row = self.size_bytes // self.shape[0]
        return replace(
            self,
            offset=self.offset + begin * row,
            size_bytes=(end - begin) * row,
            shape=(end - begin, *self.shape[1:]),
        )

    def swapped(self) -> "StoredTensor":
        """The same rows, the second half of them first."""
        return replace(self, layout=Layout.HALVES_SWAPPED)

    def transposed(self) -> "StoredTensor":
        """A matrix with its rows and columns exchanged."""
        return replace(self, layout=Layout.TRANSPOSED, shape=self.shape[::-1])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of one network by name, over all of its files."""

    files: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]


def read_checkpoint(files: Iterable[Path]) -> Checkpoint:
    """Read the headers of a network's weight files. Raises SourceError."""
    files = tuple(files)
    tensors: dict[str, StoredTensor] = {}
    for path in files:
        tensors.update(read_header(path))
    return Checkpoint(files, tensors)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Read one file's header. Raises SourceError where the file is cut off or something else."""
    header, data = raw_header(path)
    header.pop("__metadata__", None)
    try:
        tensors = {name: _stored_tensor(path, data, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: no safetensors file, or damaged ({error})") from error
    end = max((tensor.offset + tensor.size_bytes for tensor in tensors.values()), default=0)
    size = path.stat().st_size
    if end > size:
        raise SourceError(f"{path}: cut off, {size} bytes of {end}; fetch it again")
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file: names and texts, often none. Raises SourceError."""
    metadata = raw_header(path)[0].get("__metadata__")
    return metadata if isinstance(metadata, dict) else {}


def raw_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header as it stands in the file, and where the tensors begin. Raises SourceError."""
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, _LARGEST_HEADER):
                raise SourceError(f"{path}: no safetensors file, or damaged: impossible header")
            header = json.loads(stream.read(length))
    except (struct.error, ValueError) as error:
        raise SourceError(f"{path}: no safetensors file, or damaged ({error})") from error
    if not isinstance(header, dict):
        raise SourceError(f"{path}: no safetensors file, or damaged: the header is no object")
    return header, 8 + length


def match_parameters(
    shapes: Mapping[str, tuple[int, ...]],
    names: Callable[[str], tuple[str, ...]],
    checkpoint: Checkpoint,
) -> dict[str, tuple[str, StoredTensor]]:
    """For each parameter of a network: its published name, and its tensor in the checkpoint.

    `names` gives the spellings that a parameter may have, the published one first. Raises
    SourceError where a tensor is missing, or has another shape or a dtype that we do not read.
    """
    matched = {}
    first = checkpoint.files[0]
    where = first if len(checkpoint.files) == 1 else first.parent
    for parameter, shape in shapes.items():
        spellings = names(parameter)
        tensor = next((checkpoint.tensors[s] for s in spellings if s in checkpoint.tensors), None)
        if tensor is None:
            raise SourceError(
                f"{where}: the weights lack {spellings[0]}, which config.json asks for"
            )
        # Attention of an old VAE is saved as 1x1 convolutions: the same numbers.
        if tensor.shape not in {shape, (*shape, 1, 1)}:
            raise SourceError(
                f"{tensor.path}: {spellings[0]} is {list(tensor.shape)}, but config.json asks for "
                f"{list(shape)}"
            )
        if tensor.dtype not in DTYPES:
            raise SourceError(
                f"{tensor.path}: {spellings[0]} is stored as {tensor.dtype}, "
                f"expected {', '.join(DTYPES)}"
            )
        matched[parameter] = spellings[0], replace(tensor, shape=shape)
    return matched


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


def _stored_tensor(path: Path, data: int, entry: Mapping[str, object]) -> StoredTensor:
    offsets, shape, dtype = entry["data_offsets"], entry["shape"], entry["dtype"]
    if not (isinstance(offsets, list) and isinstance(shape, list) and isinstance(dtype, str)):
        raise TypeError(f"not a tensor's entry: {entry!r}")
    begin, end = (int(offset) for offset in offsets)
    shape = tuple(int(extent) for extent in shape)
    fits = dtype not in DTYPES or stored_bytes(shape, dtype) == end - begin
    if begin < 0 or end < begin or not fits:
        raise ValueError(f"shape {shape} of {dtype} does not fit bytes {begin} to {end}")
    return StoredTensor(path, data + begin, end - begin, dtype, shape)

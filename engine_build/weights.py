"""safetensors files without loading them: headers read, tensors copied by name in small pieces.

The format: eight bytes with the header's length (little endian), a JSON header that gives each
tensor's dtype, shape and place, then the tensors without gaps.
https://huggingface.co/docs/safetensors
"""

import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.errors import BuildError, SourceError

ITEM_SIZES = {"F32": 4, "F16": 2, "BF16": 2}
"""The dtypes that a graph's weights may have, with their sizes in bytes."""

_PIECE = 16 * 2**20
_LARGEST_HEADER = 100 * 2**20
# Tensors are mapped into memory as they lie: the first one begins on a cache line.
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies."""

    path: Path
    offset: int
    """From the beginning of the file, in bytes."""
    size_bytes: int
    dtype: str
    shape: tuple[int, ...]


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
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, _LARGEST_HEADER):
                raise SourceError(f"{path}: no safetensors file, or damaged: impossible header")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        tensors = {name: _stored_tensor(path, 8 + length, entry) for name, entry in header.items()}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{path}: no safetensors file, or damaged ({error})") from error
    end = max((tensor.offset + tensor.size_bytes for tensor in tensors.values()), default=0)
    if end > size:
        raise SourceError(f"{path}: cut off, {size} bytes of {end}; fetch it again")
    return tensors


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
    where = checkpoint.files[0].parent
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
        if tensor.dtype not in ITEM_SIZES:
            raise SourceError(
                f"{tensor.path}: {spellings[0]} is stored as {tensor.dtype}, "
                f"expected {', '.join(ITEM_SIZES)}"
            )
        matched[parameter] = spellings[0], replace(tensor, shape=shape)
    return matched


def copy_tensors(
    tensors: Mapping[str, StoredTensor], target: Path, advance: Callable[[int], object]
) -> dict[str, StoredTensor]:
    """Write a safetensors file with these tensors under these names, without loading one.

    `advance` is told the bytes of each piece that was copied. Returns where each tensor now lies.
    Raises BuildError when a source file ends too early.
    """
    # Large items first: each tensor is then aligned to its own item size.
    names = sorted(tensors, key=lambda name: (-ITEM_SIZES[tensors[name].dtype], name))
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
            _copy(tensors[name], out.write, advance)
    return read_header(target)


def _copy(
    tensor: StoredTensor, write: Callable[[bytes], object], advance: Callable[[int], object]
) -> None:
    left = tensor.size_bytes
    with tensor.path.open("rb") as stream:
        stream.seek(tensor.offset)
        while left:
            piece = stream.read(min(left, _PIECE))
            if not piece:
                raise BuildError(f"{tensor.path}: ended while it was copied; fetch it again")
            write(piece)
            advance(len(piece))
            left -= len(piece)


def _stored_tensor(path: Path, data: int, entry: Mapping[str, object]) -> StoredTensor:
    offsets, shape, dtype = entry["data_offsets"], entry["shape"], entry["dtype"]
    if not (isinstance(offsets, list) and isinstance(shape, list) and isinstance(dtype, str)):
        raise TypeError(f"not a tensor's entry: {entry!r}")
    begin, end = (int(offset) for offset in offsets)
    shape = tuple(int(extent) for extent in shape)
    item = ITEM_SIZES.get(dtype)
    if begin < 0 or end < begin or (item and math.prod(shape) * item != end - begin):
        raise ValueError(f"shape {shape} of {dtype} does not fit bytes {begin} to {end}")
    return StoredTensor(path, data + begin, end - begin, dtype, shape)

"""The headers of safetensors files that others wrote: read, checked, and no tensor loaded.

The format: eight bytes with the header's length (little endian), a JSON header that gives each
tensor's dtype, shape and place, then the tensors. Nothing in a header is taken on trust.
https://huggingface.co/docs/safetensors
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

from runtime.errors import SourceError
from runtime.files import parse_integer

_LARGEST_HEADER = 100 * 2**20
_MOST_AXES = 16
_LONGEST_NAME, _LONGEST_DTYPE = 500, 20

# Bits of an item of each dtype that the format has (its crate's `Dtype`).
_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}

_ZIP = b"PK\x03\x04"

# What files of that name turn out to be, by how they begin.
_OTHERS = (
    (b"version ", "a pointer of Git LFS; fetch the file that it stands for"),
    (_ZIP, "a ZIP archive, as PyTorch's pickles are, which can run code"),
    (b"\x80", "one of Python's pickles, which can run code"),
    (b"GGUF", "a GGUF file"),
    (b"<", "a web page, such as one that asks to log in; fetch the file anew"),
    (b"{", "JSON"),
)


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
        """The rows from `begin` to before `end`: a range of the same file. Raises SourceError."""
        if not (self.shape and 0 <= begin <= end <= self.shape[0]):
            raise SourceError(
                f"{self.path}: a tensor of shape {list(self.shape)}, expected at least {end} rows"
            )
        row = self.size_bytes // max(self.shape[0], 1)
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


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name. Raises SourceError where the file is cut off, damaged or
    something else."""
    header, data = raw_header(path)
    header.pop("__metadata__", None)
    tensors = {name: _stored_tensor(path, data, name, entry) for name, entry in header.items()}
    placed = sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].size_bytes))
    for (first, before), (second, after) in pairwise(placed):
        if before.offset + before.size_bytes > after.offset:
            raise SourceError(f"{path}: damaged: {_shown(first)} and {_shown(second)} overlap")
    end = max((tensor.offset + tensor.size_bytes for tensor in tensors.values()), default=0)
    size = path.stat().st_size
    if end > size:
        raise SourceError(f"{path}: cut off, {size} bytes of {end}; fetch it again")
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file: names and texts, often none. Raises SourceError.

    The format wants texts. Some tools write numbers and lists, which are passed over, as the web UI
    of AUTOMATIC1111 does; so is text that is no Unicode.
    """
    metadata = raw_header(path)[0].get("__metadata__")
    items = metadata.items() if isinstance(metadata, dict) else ()
    return {name: text for name, text in items if _is_text(name) and _is_text(text)}


def raw_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header as it stands in the file, and where the tensors begin. Raises SourceError."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        beginning = stream.read(8)
        length = struct.unpack("<Q", beginning)[0] if len(beginning) == 8 else 0
        if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
            raise SourceError(f"{path}: no safetensors file: {_other(beginning, length, size)}")
        text = stream.read(length)
    try:
        header = json.loads(
            text.decode(), object_pairs_hook=_without_duplicates, parse_int=parse_integer
        )
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is no JSON of that format: {error}") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no JSON object")
    return header, 8 + length


def _other(beginning: bytes, length: int, size: int) -> str:
    """A description of a file that has no header."""
    if not beginning:
        return "it is empty; fetch it again"
    # What else begins a file makes a length that no header has, but for some archives.
    if len(beginning) == 8 and length <= _LARGEST_HEADER and not beginning.startswith(_ZIP):
        return f"cut off, or something else: {size} bytes, and a header of {length} in them"
    found = next((what for start, what in _OTHERS if beginning.startswith(start)), None)
    return "it begins with no length of a header" if found is None else f"it is {found}"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{_shown(twice)} is there twice")
    return content


def _stored_tensor(path: Path, data: int, name: str, entry: object) -> StoredTensor:
    if not _is_text(name) or len(name) > _LONGEST_NAME:
        raise _damaged(path, f"the name {_shown(name)} is no Unicode text of a name's length")
    if not isinstance(entry, Mapping):
        raise _damaged(path, f"{_shown(name)} is no entry of a tensor: {_shown(entry)}")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not (
        _is_text(dtype)
        and len(dtype) <= _LONGEST_DTYPE
        and _are_counts(shape)
        and _are_counts(offsets)
        and len(offsets) == 2
    ):
        raise _damaged(path, f"{_shown(name)} is no entry of a tensor: {_shown(entry)}")
    begin, end = offsets
    bits = _BITS.get(dtype)
    if end < begin or (bits is not None and prod(shape) * bits != 8 * (end - begin)):
        fault = f"shape {_shown(shape)} of {dtype} does not fit bytes {begin} to {end}"
        raise _damaged(path, f"{_shown(name)}: {fault}")
    return StoredTensor(path, data + begin, end - begin, dtype, tuple(shape))


def _is_text(value: object) -> TypeGuard[str]:
    """True for text that can be written: JSON may hold halves of characters."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _are_counts(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_AXES
        # A bool is an int in Python; no file is of 2**63 bytes.
        and all(type(item) is int and 0 <= item < 2**63 for item in value)
    )


def _damaged(path: Path, fault: str) -> SourceError:
    return SourceError(f"{path}: no safetensors file, or damaged: {fault}; fetch it again")


def _shown(value: object) -> str:
    """A value from a header, which may be long, and may be unprintable."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""Blanks the device code of a shared library for all GPUs but one, so that the file packs small.

    python -m scripts.device_code LIBRARY OUTPUT sm_90

The payloads of all other device code become zeros. No byte moves, so the remaining code is loaded
as before; a GPU of another architecture finds no code.

Device code lies in the ELF section `.nv_fatbin`: a sequence of containers, each with one header and
a sequence of entries, one entry for each architecture that the same kernels were compiled for.
NVIDIA publishes no description of that format. The format here was read off the binaries of CUDA 12
and 13, and a library that differs from it is refused.
"""

import argparse
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECTION = b".nv_fatbin"

# Little-endian ELF of 64 bits. Fields of the file header: offset of the section headers, size of a
# section header, number of sections, index of the section that holds the section names. Fields of a
# section header: offset of the name, kind, offset and size of the section.
_ELF = b"\x7fELF\x02\x01"
_FILE = struct.Struct("<40xQ10xHHH")
_HEADER = struct.Struct("<II16xQQ24x")
_NO_BITS = 8
"""Kind of a section that takes no room in the file."""

# Header of a container: magic number, version, size of the header, size of all entries.
_CONTAINER = struct.Struct("<IHHQ")
_MAGIC = 0xBA55ED50
_CONTAINER_VERSION = 1
_ALIGNMENT = 8

# Header of an entry: kind, version, size of the header, size of the payload; at byte 28 the
# architecture.
_ENTRY = struct.Struct("<HHIQ12xI")
_ENTRY_VERSION = 0x101
_PTX, _MACHINE_CODE = 1, 2


class DeviceCodeError(Exception):
    """Reason for leaving a library unchanged: the file, the place and the expected content."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Code for one architecture in a container."""

    kind: int
    """1 for PTX, 2 for machine code."""
    architecture: int
    """90 for sm_90."""
    payload: slice
    """Byte range in the file."""

    @property
    def size(self) -> int:
        """Size of the payload in bytes."""
        return int(self.payload.stop - self.payload.start)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", type=Path, metavar="LIBRARY")
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("gpu", metavar="sm_90", help="the compute capability to keep")
    options = parser.parse_args(arguments)
    try:
        content = bytearray(options.library.read_bytes())
        kept, blanked = keep_only(content, architecture_of(options.gpu), str(options.library))
    except DeviceCodeError as error:
        print(f"device_code: {error}", file=sys.stderr)
        return 1
    options.output.write_bytes(content)
    print(f"{options.output}: {kept / 1e6:.1f} MB of device code kept, {blanked / 1e6:.1f} blanked")
    return 0


def architecture_of(gpu: str) -> int:
    """Number of a GPU's architecture: 90 for `sm_90`. Raises DeviceCodeError for any other form."""
    digits = gpu.removeprefix("sm_")
    if digits == gpu or not digits.isdecimal():
        raise DeviceCodeError(f"{gpu!r} is no compute capability such as sm_90")
    return int(digits)


def keep_only(content: bytearray, architecture: int, name: str) -> tuple[int, int]:
    """Blank the device code that a GPU of this architecture does not run, in place.

    Returns the numbers of payload bytes kept and blanked. `name` is the file's name in errors.
    Raises DeviceCodeError, and changes nothing, when the format is unknown or when no code would be
    left for the GPU.
    """
    start, end = _section(content, name)
    containers = list(_containers(content, start, end, name))
    loaded = [_loaded(entries, architecture) for entries in containers]
    if not any(loaded):
        there = sorted({each.architecture for entries in containers for each in entries})
        found = ", ".join(f"sm_{each}" for each in there) or "none"
        raise DeviceCodeError(f"{name}: no device code for sm_{architecture}; it has {found}")
    kept = {id(entry) for entries in loaded for entry in entries}
    dropped = [each for entries in containers for each in entries if id(each) not in kept]
    for entry in dropped:
        content[entry.payload] = bytes(entry.size)
    return (
        sum(entry.size for entries in loaded for entry in entries),
        sum(entry.size for entry in dropped),
    )


def _loaded(entries: list[Entry], architecture: int) -> list[Entry]:
    """Entries that CUDA loads from one container on a GPU of this architecture.

    CUDA takes the newest machine code of the GPU's own generation that is not newer than the GPU,
    and PTX only where there is no such machine code.
    """
    runs = [each for each in entries if each.architecture <= architecture]
    same = [each for each in runs if each.architecture // 10 == architecture // 10]
    machine_code = [each for each in same if each.kind == _MACHINE_CODE]
    usable = machine_code or [each for each in runs if each.kind == _PTX]
    best = max((each.architecture for each in usable), default=0)
    # sm_90 and sm_90a have separate entries with the same number, and both are the GPU's own.
    return [each for each in usable if each.architecture == best]


def _section(content: bytearray, name: str) -> tuple[int, int]:
    """Begin and end of the device code section, as byte offsets in the file."""
    if content[: len(_ELF)] != _ELF:
        raise DeviceCodeError(f"{name}: expected a little-endian ELF file of 64 bits")
    try:
        begin, size, number, names = _FILE.unpack_from(content)
        headers = [_HEADER.unpack_from(content, begin + size * each) for each in range(number)]
        _, _, strings, _ = headers[names]
    except (struct.error, IndexError, OverflowError):
        raise DeviceCodeError(f"{name}: its section headers lie outside of the file") from None
    for place, kind, offset, length in headers:
        if content.startswith(SECTION + b"\0", strings + place) and kind != _NO_BITS:
            if offset + length > len(content):
                raise DeviceCodeError(f"{name}: {SECTION.decode()} ends behind the file's end")
            return offset, offset + length
    raise DeviceCodeError(f"{name}: no section {SECTION.decode()}, so there is no device code")


def _containers(content: bytearray, start: int, end: int, name: str) -> Iterator[list[Entry]]:
    position = start
    while position < end:
        _check(position + _CONTAINER.size <= end, name, position, "room for a container's header")
        magic, version, header, size = _CONTAINER.unpack_from(content, position)
        _check(magic == _MAGIC, name, position, f"the magic number {_MAGIC:#x}")
        _check(version == _CONTAINER_VERSION, name, position, "a container of version 1")
        first, last = position + header, position + header + size
        _check(header >= _CONTAINER.size and last <= end, name, position, "a container that ends")
        yield list(_entries(content, first, last, name))
        position = min(end, last + -last % _ALIGNMENT)
        _check(not any(content[last:position]), name, last, "zeros up to the next container")


def _entries(content: bytearray, position: int, end: int, name: str) -> Iterator[Entry]:
    while position < end:
        _check(position + _ENTRY.size <= end, name, position, "room for an entry's header")
        kind, version, header, size, architecture = _ENTRY.unpack_from(content, position)
        _check(kind in {_PTX, _MACHINE_CODE}, name, position, "PTX (1) or machine code (2)")
        _check(version == _ENTRY_VERSION, name, position, f"an entry of version {_ENTRY_VERSION}")
        begin, last = position + header, position + header + size
        _check(header >= _ENTRY.size and last <= end, name, position, "an entry that ends")
        yield Entry(kind, architecture, slice(begin, last))
        position = last


def _check(as_known: object, name: str, position: int, expected: str) -> None:
    if not as_known:
        raise DeviceCodeError(
            f"{name}: device code of another format at byte {position}: expected {expected}; "
            "pack the library as it is"
        )


if __name__ == "__main__":
    sys.exit(main())

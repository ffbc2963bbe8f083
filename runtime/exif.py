"""The EXIF block of a picture: a description and a comment, and what the standard asks for.

CIPA DC-008 (Exif 2.32): TIFF's first directory holds the description and points to the Exif
directory, which holds the comment. The comment's type is UNDEFINED and its text begins with eight
bytes that name the character code (4.6.5 there); readers take another type for no comment. Numbers
are big endian, and so is the comment's UTF-16: readers decode it in the order of the file, or
always so.
"""

import struct

from PIL import Image

CAPACITY = 65533
"""Bytes of a block in a JPEG: a segment's length is a 16-bit number (ITU-T T.81, B.1.1.4)."""

_IDENTIFIER = b"Exif\0\0"

_DESCRIPTION = 0x010E
_EXIF_DIRECTORY = 0x8769
_EXIF_VERSION = 0x9000
_COMMENT = 0x9286

_ASCII, _LONG, _UNDEFINED = 2, 4, 7

_UTF16 = b"UNICODE\0"

_HEADER = struct.pack(">2sHI", b"MM", 42, 8)

_Entry = tuple[int, int, bytes]
"""Tag, type and value, which takes one byte an item."""


def exif_block(description: bytes | None, comment: str | None) -> bytes:
    """A block with these fields, each left out where it is None. The description ends at a NUL."""
    comments: list[_Entry] = [] if comment is None else [(_COMMENT, _UNDEFINED, _encoded(comment))]
    exif: list[_Entry] = [(_EXIF_VERSION, _UNDEFINED, b"0232"), *comments]
    described: list[_Entry] = []
    if description is not None:
        described = [(_DESCRIPTION, _ASCII, description + b"\0")]
    begin = len(_HEADER) + len(_directory([*described, (_EXIF_DIRECTORY, _LONG, bytes(4))], 0))
    pointer: _Entry = (_EXIF_DIRECTORY, _LONG, struct.pack(">I", begin))
    return (
        _IDENTIFIER
        + _HEADER
        + _directory([*described, pointer], len(_HEADER))
        + _directory(exif, begin)
    )


def exif_description(image: Image.Image) -> str:
    """The description of an opened picture; empty for none. Raises what Pillow raises."""
    found: object = image.getexif().get(_DESCRIPTION)
    # Pillow takes the bytes for Latin-1.
    return found.encode("latin-1").decode() if isinstance(found, str) else ""


def exif_comment(image: Image.Image) -> str:
    """The comment of an opened picture; empty for none. Raises what Pillow raises."""
    found: object = image.getexif().get_ifd(_EXIF_DIRECTORY).get(_COMMENT)
    if not isinstance(found, bytes) or not found.startswith(_UTF16):
        return ""
    return found.removeprefix(_UTF16).decode("utf-16-be")


def _encoded(comment: str) -> bytes:
    return _UTF16 + comment.encode("utf-16-be")


def _directory(entries: list[_Entry], begin: int) -> bytes:
    """A directory, the last of its chain, that lies at `begin` and is followed by its values."""
    listed, values = b"", b""
    after = begin + 2 + 12 * len(entries) + 4
    for tag, kind, value in entries:
        count = 1 if kind == _LONG else len(value)
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack(">I", after + len(values))
            # Values begin at even offsets.
            values += value + bytes(len(value) % 2)
        listed += struct.pack(">HHI", tag, kind, count) + place
    return struct.pack(">H", len(entries)) + listed + bytes(4) + values

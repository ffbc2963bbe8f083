"""PNG files (W3C, Portable Network Graphics, third edition), in strips that threads encode.

Pillow encodes on one thread, has Python's lock while it does, and takes most of its time to choose
each row's filter. Here filters are NumPy's work on a strip that fits a core's cache. Each strip is
a series of deflate blocks that ends on a byte, so that the strips joined are one stream (RFC 1951).
"""

import os
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from struct import pack

import numpy as np
from numpy.typing import NDArray

from runtime.draw.decode import Pixels

STRIP_ROWS = 64
MOST_THREADS = 4

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = 3
_RGB = 2
_ZLIB_HEADER = b"\x78\x01"

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Strip:
    filtered: memoryview
    deflated: bytes


def png(pixels: Pixels, texts: Iterable[tuple[str, str]]) -> bytes:
    """The file of pixels `[H, W, 3]`, with these keywords and texts in it."""
    height, width = pixels.shape[:2]
    rows = np.zeros((height + 1, (width + 1) * _CHANNELS), np.uint8)
    # A row of zeros above the picture and a pixel of zeros to its left.
    rows[1:, _CHANNELS:] = pixels.reshape(height, -1)
    begins = range(0, height, STRIP_ROWS)
    pieces = [rows[begin : begin + STRIP_ROWS + 1] for begin in begins]
    ends = [*([zlib.Z_SYNC_FLUSH] * (len(pieces) - 1)), zlib.Z_FINISH]
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1, len(pieces))) as threads:
        strips = list(threads.map(_strip, pieces, ends))
    check = 1
    for strip in strips:
        check = zlib.adler32(strip.filtered, check)
    header = pack(">IIBBBBB", width, height, 8, _RGB, 0, 0, 0)
    stream = b"".join([_ZLIB_HEADER, *(strip.deflated for strip in strips), pack(">I", check)])
    chunks = [
        _chunk(b"IHDR", header),
        *(_text(keyword, text) for keyword, text in texts),
        _chunk(b"IDAT", stream),
        _chunk(b"IEND", b""),
    ]
    return b"".join([_SIGNATURE, *chunks])


def _text(keyword: str, text: str) -> bytes:
    if text.isascii():
        return _chunk(b"tEXt", f"{keyword}\0{text}".encode())
    return _chunk(b"iTXt", f"{keyword}\0\0\0\0\0{text}".encode())


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(kind))
    return b"".join([pack(">I", len(content)), kind, content, pack(">I", check)])


def _strip(rows: Bytes, end: int) -> _Strip:
    """The rows after the first, which is the one above; in all, a pixel of zeros comes first.

    `end` is zlib's name for the end of the strip's blocks.
    """
    filtered = _filtered(rows).data
    # The filters leave runs and small numbers, and next to nothing for a search of matches.
    stream = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    deflated = stream.compress(filtered) + stream.flush(end)
    return _Strip(filtered, deflated)


def _filtered(rows: Bytes) -> Bytes:
    """Each row by the filter that leaves the smallest numbers, with the filter's type before it.

    That is the choice that the specification recommends (12.7, Filter selection).
    """
    here, left = rows[1:, _CHANNELS:], rows[1:, :-_CHANNELS]
    above, corner = rows[:-1, _CHANNELS:], rows[:-1, :-_CHANNELS]
    mean = (left >> 1) + (above >> 1) + (left & above & 1)
    predictions = {1: left, 2: above, 3: mean, 4: _paeth(left, above, corner)}
    filtered = np.empty((len(here), here.shape[1] + 1), np.uint8)
    least = np.full(len(here), np.iinfo(np.int64).max)
    for kind, predicted in predictions.items():
        left_over = here - predicted
        # As signed numbers; -128 stays itself, and counts as 128 without a sign.
        size = np.abs(left_over.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.int64)
        better = size < least
        filtered[better, 0] = kind
        np.copyto(filtered[:, 1:], left_over, where=better[:, np.newaxis])
        least = np.minimum(least, size)
    return filtered


def _paeth(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    """Of three neighbours the one that is nearest to left + above - corner; left before above
    before corner where they are equally near.
    """
    to_left = above.astype(np.int16) - corner
    to_above = left.astype(np.int16) - corner
    to_corner = np.abs(to_left + to_above)
    np.abs(to_left, out=to_left)
    np.abs(to_above, out=to_above)
    nearest = np.where(to_above <= to_corner, above, corner)
    takes_left = (to_left <= to_above) & (to_left <= to_corner)
    np.copyto(nearest, left, where=takes_left)
    return nearest

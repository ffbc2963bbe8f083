"""Names of jobs, and cursors of the gallery's pages."""

import base64
import hashlib
import secrets
import time

_CURSOR_MARK = b"gallery-1"


def new_job_id() -> str:
    """32 hex digits laid out as a UUID of version 7: they sort by time, 74 bits are random."""
    stamp = time.time_ns() // 1_000_000 & (1 << 48) - 1
    value = stamp << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return f"{value:032x}"


def cursor_after(sequence: int) -> str:
    """The cursor of the page that follows the picture of this sequence number."""
    number = sequence.to_bytes(8, "big")
    return base64.urlsafe_b64encode(number + _check(number)).decode("ascii")


def read_cursor(cursor: str) -> int:
    """The sequence number in a cursor. Raises ValueError for any other text."""
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    sequence = int.from_bytes(raw[:8], "big")
    # Base64 has several spellings of the same bytes; only the one that we wrote is ours.
    if len(raw) != 12 or raw[8:] != _check(raw[:8]) or cursor_after(sequence) != cursor:
        shown = ascii(cursor[:40])
        raise ValueError(f"{shown} is no cursor of this gallery; take next_cursor from a page")
    return sequence


def _check(number: bytes) -> bytes:
    return hashlib.blake2s(number, digest_size=4, key=_CURSOR_MARK).digest()

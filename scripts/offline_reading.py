"""Reads the parts of a bundle where it was carried to: copied beside the script that does the rest.

It needs Python alone, as that script does.
"""

import hashlib
import json
import sys

MANIFEST = "bundle.json"
BLOCK = 1024 * 1024


def read_manifest(folder):
    """The manifest of a bundle, the hash that names it, and what is wrong with both, or None."""
    path = folder / MANIFEST
    if not path.is_file():
        return None, "", f"{MANIFEST}: missing; copy it again"
    text = path.read_bytes()
    return json.loads(text), hashlib.sha256(text).hexdigest(), None


def check_parts(folder, parts):
    """The fault of the first part that is not whole; None where all are."""
    for number, part in enumerate(parts, start=1):
        show(f"checking part {number} of {len(parts)}")
        path = folder / part["name"]
        if not path.is_file():
            return f"{part['name']}: missing; copy it again"
        if path.stat().st_size != part["size"]:
            size, expected = path.stat().st_size, part["size"]
            return f"{part['name']}: {size} bytes, expected {expected}; copy it again"
        if sha256(path) != part["sha256"]:
            return f"{part['name']}: damaged, its sha256 is another one; copy it again"
    return None


def blocks(folder, parts):
    """The parts' bytes, a block at a time."""
    for part in parts:
        with (folder / part["name"]).open("rb") as stream:
            while True:
                block = stream.read(BLOCK)
                if not block:
                    break
                yield block


def sha256(path):
    """A file's hash."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def show(line):
    """How far it is, where somebody looks."""
    if sys.stderr.isatty():
        print("\r" + line.ljust(60), end="" if line else "\n", file=sys.stderr, flush=True)

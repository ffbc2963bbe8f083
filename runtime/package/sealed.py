"""JSON files whose damage is noticed.

The files are written in one canonical form, sealed by a digest over all the rest: a file that
differs from that form in a single byte is damaged. A format number names the version of the form.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from runtime.errors import PackageError, quoted
from runtime.files import parse_json

ContentT = TypeVar("ContentT")


def seal(adapter: TypeAdapter[ContentT], value: ContentT) -> bytes:
    """The canonical form: JSON with sorted keys and a `digest` over all the rest."""
    content = adapter.dump_python(value, mode="json")
    content["digest"] = _digest(content)
    return _canonical(content)


def read_sealed(
    path: Path, adapter: TypeAdapter[ContentT], version: int, remedy: str
) -> tuple[ContentT, str]:
    """Read a sealed file of format `version`; returns its content and its digest.

    Raises PackageError that ends with `remedy`, and FileNotFoundError.
    """
    raw = path.read_bytes()
    try:
        content = parse_json(raw)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{path}: damaged, not JSON ({error}); {remedy}") from error
    if not isinstance(content, dict) or content.get("format") != version:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise PackageError(f"{path}: format {quoted(found)}, expected {version}; {remedy}")
    digest = content.pop("digest", None)
    if not _fits(raw, content, digest):
        raise PackageError(f"{path}: damaged, its digest does not fit; {remedy}")
    try:
        return adapter.validate_python(content), digest
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PackageError(f"{path}: {where}: {first['msg']}; {remedy}") from error


def _fits(raw: bytes, content: Mapping[str, Any], digest: str | None) -> bool:
    try:
        return digest == _digest(content) and raw == _canonical({**content, "digest": digest})
    except (
        ValueError,
        RecursionError,
    ):  # A NaN or half of a character, which no sealed file holds.
        return False


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()


def _canonical(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"

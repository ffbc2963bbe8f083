"""Errors as AUTOMATIC1111's API writes them (`handle_exception` of its modules/api/api.py)."""

from collections.abc import Mapping
from typing import Any

PREFIXES = ("/sdapi/", "/internal/")
"""Beginnings of the addresses of that API."""


def spell(problem: Mapping[str, Any]) -> dict[str, str]:
    """A problem (RFC 9457) in its words: clients show `detail`, and some of them `errors`."""
    detail = problem["detail"]
    return {"error": problem["title"], "detail": detail, "body": "", "errors": detail}

"""Errors as AUTOMATIC1111's API writes them (`handle_exception` of its modules/api/api.py)."""

from collections.abc import Mapping
from typing import Any

PREFIXES = ("/sdapi/", "/internal/")
"""Beginnings of the addresses of that API."""


def spell(problem: Mapping[str, Any]) -> dict[str, str]:
    """A problem (RFC 9457) in its words: clients show `detail`, some of them `errors`."""
    faults = problem.get("errors", ())
    listed = "; ".join(f"{fault['pointer'][1:]}: {fault['detail']}" for fault in faults)
    detail = problem["detail"]
    return {"error": problem["title"], "detail": detail, "body": "", "errors": listed or detail}

"""Errors as AUTOMATIC1111's API writes them (`handle_exception` of its modules/api/api.py)."""

from api.error_dialect import Problem, Spelled

PREFIXES = ("/sdapi/", "/internal/")
"""Beginnings of the addresses of that API."""


def spell(problem: Problem) -> Spelled:
    """A problem (RFC 9457) in its words: clients show `detail`, and some of them `errors`."""
    detail = problem["detail"]
    content = {"error": problem["title"], "detail": detail, "body": "", "errors": detail}
    return Spelled(content, problem["status"])

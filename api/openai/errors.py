"""Errors in OpenAI's form."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from api.error_dialect import Problem, Spelled

PREFIX = "/v1/"
"""Every address of the dialect begins so."""

_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_CODES: Mapping[int, str] = {
    401: "invalid_api_key",
    404: "not_found",
    429: "rate_limit_exceeded",
    503: "server_overloaded",
}


class OpenAIError(BaseModel):
    """The error: `type` and `code` are for programs, `param` names the wrong field."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorBody(BaseModel):
    """An error as OpenAI's clients read it."""

    error: OpenAIError


def openai_status(status: int) -> int:
    """The status of a problem's: a wrong field is a 400 there."""
    return 400 if status == 422 else status


def openai_error(status: int, detail: str, pointer: str | None = None) -> OpenAIErrorBody:
    """An error with the status that it has here; `pointer`: JSON pointer to the wrong field."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    param = None if pointer is None else pointer.removeprefix("/").replace("/", ".") or None
    code = "model_not_found" if (status, param) == (404, "model") else _CODES.get(status)
    return OpenAIErrorBody(
        error=OpenAIError(message=detail, type=_TYPES.get(status, kind), param=param, code=code)
    )


def openai_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, for the documentation."""
    return {status: {"model": OpenAIErrorBody} for status in statuses}


def spelled(problem: Problem) -> Spelled:
    """A problem in OpenAI's words."""
    status = problem["status"]
    faults = problem.get("errors") or [{"pointer": None}]
    error = openai_error(status, problem["detail"], faults[0]["pointer"])
    # OpenAI's client would draw a picture that failed twice more.
    headers = {"x-should-retry": "false"} if status == 500 else {}
    return Spelled(error.model_dump(), openai_status(status), headers)

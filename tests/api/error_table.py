"""The errors of each dialect, as docs/clients.md has them and `test_dialect_errors` finds them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import openai


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a picture that goes wrong, before any dialect has put it into its words."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    key: str = "painter"
    content: bytes | None = None
    """Sent in place of the body that the client wrote."""
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a cause, by dialect."""

    cause: str
    ours: int
    openai: int
    kind: str
    """`type` of OpenAI's error."""
    code: str | None
    exception: type[openai.APIStatusError]
    a1111: int

    @property
    def row(self) -> str:
        """Its row in docs/clients.md."""
        code = f"`{self.code}`" if self.code else ""
        told = f"{self.openai} | `{self.kind}` | {code} | `{self.exception.__name__}`"
        return f"| {self.cause} | {self.ours} | {told} | {self.a1111} |"


_WRONG, _BUSY, _BROKEN = "invalid_request_error", "rate_limit_error", "server_error"

TABLE: Mapping[str, Refusal] = {
    "no_json": Refusal("the body is no JSON", 400, 400, _WRONG, None, openai.BadRequestError, 400),
    "wrong_key": Refusal(
        "no key, or a wrong one",
        401,
        401,
        "authentication_error",
        "invalid_api_key",
        openai.AuthenticationError,
        401,
    ),
    "no_right": Refusal(
        "a key without the right",
        403,
        403,
        "permission_error",
        None,
        openai.PermissionDeniedError,
        403,
    ),
    "wrong_field": Refusal("a field is wrong", 422, 400, _WRONG, None, openai.BadRequestError, 422),
    "unknown_model": Refusal(
        "a model that is not served",
        422,
        404,
        _WRONG,
        "model_not_found",
        openai.NotFoundError,
        422,
    ),
    "too_large": Refusal("a body over 1 MiB", 413, 413, _WRONG, None, openai.APIStatusError, 413),
    "not_declared": Refusal(
        "a body that is not declared as JSON", 415, 415, _WRONG, None, openai.APIStatusError, 415
    ),
    "rate": Refusal(
        "the caller is over its pictures a minute",
        429,
        429,
        _BUSY,
        "rate_limit_exceeded",
        openai.RateLimitError,
        429,
    ),
    "streams": Refusal(
        "the caller has as many streams open as it may",
        429,
        429,
        _BUSY,
        "rate_limit_exceeded",
        openai.RateLimitError,
        429,
    ),
    "failed": Refusal(
        "the picture fails", 200, 500, _BROKEN, None, openai.InternalServerError, 500
    ),
    "full": Refusal(
        "the queue is full",
        503,
        503,
        _BROKEN,
        "server_overloaded",
        openai.InternalServerError,
        503,
    ),
    "stopping": Refusal(
        "the server is stopped meanwhile",
        202,
        503,
        _BROKEN,
        "server_overloaded",
        openai.InternalServerError,
        503,
    ),
    "no_room": Refusal(
        "the disk is full", 507, 507, _BROKEN, None, openai.InternalServerError, 507
    ),
}
"""By cause."""

RETRIED = {"rate", "streams", "full", "stopping", "no_room"}
"""The causes that pass by themselves: their answers have `Retry-After`."""

HEAD = (
    "| cause | `/api` | `/v1` | `type` | `code` | exception | `/sdapi` |",
    "|---|---|---|---|---|---|---|",
)

ROWS = tuple(refusal.row for refusal in TABLE.values())

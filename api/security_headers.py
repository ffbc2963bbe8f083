"""Headers by which every answer tells browsers what it may not be used for."""

from starlette.types import Message

_SAME_ORIGIN = b"same-origin"
_CROSS_ORIGIN = b"cross-origin"

_HEADERS = (
    # JSON and pictures load nothing and stand in no frame; the pages bring a policy of their own.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    # For browsers that do not know frame-ancestors.
    (b"x-frame-options", b"DENY"),
)


def security_headers(*, shared: bool) -> tuple[tuple[bytes, bytes], ...]:
    """The headers; `shared`: pages of other sites are allowed, so that they may show pictures."""
    policy = _CROSS_ORIGIN if shared else _SAME_ORIGIN
    return (*_HEADERS, (b"cross-origin-resource-policy", policy))


def add_missing(start: Message, defaults: tuple[tuple[bytes, bytes], ...]) -> None:
    """Add to an answer's head those headers that its route has not set."""
    given = list(start.get("headers", ()))
    names = {name for name, _ in given}
    start["headers"] = given + [header for header in defaults if header[0] not in names]

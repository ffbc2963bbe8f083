"""Body of an HTTP request: read up to a limit, and parsed as JSON."""

from fastapi import Request
from starlette.requests import ClientDisconnect

from api.errors import BodyCutShort, BodyTooLarge, NotJson
from runtime.plan.request import read_json

MAX_BODY_BYTES = 1 << 20


async def read_body(request: Request) -> bytes:
    """The body's bytes, up to MAX_BODY_BYTES. Raises BodyTooLarge, BodyCutShort."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
        raise BodyTooLarge(_too_large(declared))
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise BodyTooLarge(_too_large(f"{len(body)} or more"))
    except ClientDisconnect as error:
        raise BodyCutShort(f"the body ended after {len(body)} bytes") from error
    return bytes(body)


def parse_body(body: bytes) -> object:
    """The JSON in the body. Raises NotJson."""
    try:
        return read_json(body)
    except ValueError as error:
        raise NotJson(f"the body is no JSON: {error}") from error
    except RecursionError as error:
        raise NotJson("the body is nested too deeply to be a request") from error


def _too_large(found: str) -> str:
    return f"the body has {found} bytes; at most {MAX_BODY_BYTES} are taken"

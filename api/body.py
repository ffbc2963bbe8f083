"""Body of an HTTP request: declared as JSON, read up to a limit, and parsed.

A page of another site can send a body of any other type without the browser asking first, so that
the declaration is a matter of safety too (Fetch standard, "simple" requests).
"""

import asyncio
import re
from email.message import Message

from fastapi import Request
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from api.errors import BodyCutShort, BodyNotDeclared, BodyTooLarge, NotJson
from runtime.plan.request import read_json

PARSED_HERE = 8 * 1024
"""The most bytes of a body that is parsed on the event loop, in a fifth of a millisecond."""
MAX_BODY_BYTES = 1 << 20

_JSON = re.compile(r"application/([a-z0-9!#$&^_.-]+\+)?json")
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})


async def read_body(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """The body's bytes, up to so many.

    Raises BodyNotDeclared, BodyTooLarge, BodyCutShort.
    """
    _check_declaration(request.headers)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise BodyTooLarge(_too_large(declared, most))
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise BodyTooLarge(_too_large(f"{len(body)} or more", most))
    except ClientDisconnect as error:
        raise BodyCutShort(f"the body ended after {len(body)} bytes") from error
    return bytes(body)


async def read_json_body(request: Request) -> object:
    """The JSON in a request's body. Raises what `read_body` and `parse_body` do."""
    sent = await read_body(request)
    # A small body is parsed in less time than another thread takes to begin with it.
    if len(sent) <= PARSED_HERE:
        return parse_body(sent)
    return await asyncio.to_thread(parse_body, sent)


def _check_declaration(headers: Headers) -> None:
    """Check `Content-Type` and `Content-Encoding`. Raises BodyNotDeclared."""
    remedy = "send JSON with the header Content-Type: application/json"
    if "content-type" not in headers:
        raise BodyNotDeclared(f"the body has no Content-Type; {remedy}")
    declared = Message()
    declared["Content-Type"] = headers["content-type"]
    shown = f"the body's Content-Type is {headers['content-type'][:60]!r}"
    if not _JSON.fullmatch(declared.get_content_type()):
        raise BodyNotDeclared(f"{shown}; {remedy}")
    if str(declared.get_param("charset", "utf-8")).lower() not in _CHARSETS:
        raise BodyNotDeclared(f"{shown}; JSON is sent in UTF-8")
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise BodyNotDeclared(f"the body's Content-Encoding is {encoding[:60]!r}; send it plain")


def parse_body(body: bytes) -> object:
    """The JSON in the body. Raises NotJson."""
    try:
        return read_json(body)
    except ValueError as error:
        raise NotJson(f"the body is no JSON: {error}") from error
    except RecursionError as error:
        raise NotJson("the body is nested too deeply to be a request") from error


def _too_large(found: str, most: int) -> str:
    return f"the body has {found} bytes; at most {most} are taken"

"""Gate of the app: with keys on, every request names its caller and has the right that it needs.

Programs send `Authorization: Bearer KEY`, and clients of AUTOMATIC1111's API, which know a user and
a password, `Basic` with the key as the password. A browser cannot for pictures and streams: it gets
a cookie for a key, signed and valid for SESSION_SECONDS, that holds no secret of the key.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address

from anyio import CancelScope
from fastapi import Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.a1111.errors import PREFIXES as A1111_PREFIXES
from api.callers import KEY
from api.errors import problem
from api.keys import ApiKey, KeyFile, KeysError
from api.keys import Scope as Right

COOKIE = "calotype_session"
SESSION_SECONDS = 30 * 24 * 3600

_OPEN = ("/health", "/ready", "/docs", "/docs/", "/page/", "/openapi.json", "/api/session")
"""Addresses that need no key, as `/` does; one that ends in / stands for all below it."""
_RIGHTS: Mapping[tuple[str, str], Right] = {
    ("POST", "/api/generate"): Right.GENERATE,
    ("POST", "/sdapi/v1/txt2img"): Right.GENERATE,
    ("POST", "/sdapi/v1/interrupt"): Right.GENERATE,
    ("POST", "/sdapi/v1/skip"): Right.GENERATE,
    # It takes what is so already, and changes nothing.
    ("POST", "/sdapi/v1/options"): Right.READ,
    ("POST", "/sdapi/v1/png-info"): Right.READ,
    ("POST", "/v1/images/generations"): Right.GENERATE,
    ("DELETE", "/api/jobs/"): Right.GENERATE,
    ("DELETE", "/api/images/"): Right.ADMIN,
    ("GET", "/metrics"): Right.ADMIN,
}
"""Rights by method and address. To look at anything else takes READ, to change it ADMIN."""
_LOOKS = frozenset({"GET", "HEAD"})
_PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip")


def right_for(method: str, path: str) -> Right | None:
    """The right that a request takes; None for one that is open to everybody."""
    if method == "OPTIONS" or path == "/" or any(_covers(place, path) for place in _OPEN):
        return None
    method = "GET" if method == "HEAD" else method
    for (each, place), right in _RIGHTS.items():
        if each == method and _covers(place, path):
            return right
    return Right.READ if method in _LOOKS else Right.ADMIN


class Gate:
    """Middleware that lets those in who have a key with the right that their request takes."""

    def __init__(self, app: ASGIApp, keys: KeyFile) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            answer = self._refusal(scope)
        except KeysError as error:
            answer = problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        if answer is None and KEY in scope:
            await self._while_valid(scope[KEY], scope, receive, send)
        else:
            await (answer or self._app)(scope, receive, send)

    async def _while_valid(self, key: ApiKey, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. A stream ends before what it would tell after its key is revoked."""
        with CancelScope() as answering:

            async def checked(message: Message) -> None:
                if message.get("more_body") and self._keys.by_id(key.id) is None:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    answering.cancel()
                else:
                    await send(message)

            await self._app(scope, receive, checked)

    def _refusal(self, scope: Scope) -> Response | None:
        right = right_for(scope["method"], scope["path"])
        headers = Headers(scope=scope)
        if right is None or (scope["path"] == "/metrics" and _is_here(scope, headers)):
            return None
        by_password = scope["path"].startswith(A1111_PREFIXES)
        key = caller(self._keys, headers, by_password=by_password)
        if key is None:
            given = "authorization" in headers or COOKIE in headers.get("cookie", "")
            return unknown_caller(given=given, by_password=by_password)
        if key.scope < right:
            return problem(
                HTTPStatus.FORBIDDEN,
                f"the key {key.name} has the scope {key.scope.word}; this takes {right.word}",
                headers={"WWW-Authenticate": 'Bearer error="insufficient_scope"'},
            )
        scope[KEY] = key
        return None


def unknown_caller(*, given: bool, by_password: bool = False) -> Response:
    """The answer to a caller without a key, or with one that is `given` and none of ours."""
    detail = (
        "the key is none of this server's, or it was revoked, or the session is over"
        if given
        else "this server takes a key: send the header Authorization: Bearer KEY, where KEY is "
        "what `calotype keys create` printed"
    )
    challenge = 'Bearer error="invalid_token"' if given else "Bearer"
    if by_password:
        challenge = 'Basic realm="Calotype", charset="UTF-8"'
        detail += "; as a password, it may have any user"
    return problem(HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge})


def caller(keys: KeyFile, headers: Headers, *, by_password: bool = False) -> ApiKey | None:
    """The key that a request names, in its header or by its cookie; `by_password`: also as the
    password of a user of any name (RFC 7617). Raises KeysError.
    """
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return keys.find(token.strip())
    if by_password and kind.lower() == "basic":
        return keys.find(_password(token.strip()))
    return _of_session(keys, _cookie(headers.get("cookie", "")))


def _password(token: str) -> str:
    """The password in Basic credentials; empty for what is none."""
    try:
        return base64.b64decode(token, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def session_cookie(keys: KeyFile, key: ApiKey, *, secure: bool) -> str:
    """The header `Set-Cookie` that lets a browser act for a key. Raises KeysError."""
    ends = f"{key.id}.{int(time.time()) + SESSION_SECONDS}"
    value = f"{ends}.{_signature(keys, ends)}"
    return _set_cookie(value, SESSION_SECONDS, secure=secure)


def ended_cookie(*, secure: bool) -> str:
    """The header `Set-Cookie` that ends a browser's session."""
    return _set_cookie("", 0, secure=secure)


def _set_cookie(value: str, seconds: int, *, secure: bool) -> str:
    flags = "Path=/; HttpOnly; SameSite=Strict" + "; Secure" * secure
    return f"{COOKIE}={value}; Max-Age={seconds}; {flags}"


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _of_session(keys: KeyFile, value: str) -> ApiKey | None:
    ends, _, signature = value.rpartition(".")
    identity, _, until = ends.partition(".")
    if not (until.isdecimal() and until.isascii() and len(until) < 16):
        return None
    if int(until) < time.time() or not keys.all():
        return None
    signed = hmac.compare_digest(signature.encode(), _signature(keys, ends).encode())
    return keys.by_id(identity) if signed else None


def _signature(keys: KeyFile, text: str) -> str:
    return hmac.new(keys.signing_secret(), text.encode(), hashlib.sha256).hexdigest()


def _covers(place: str, path: str) -> bool:
    return path.startswith(place) if place.endswith("/") else path == place


def _is_here(scope: Scope, headers: Headers) -> bool:
    """True for a request of this machine, which no proxy passes on for another."""
    client = scope.get("client")
    if client is None or any(name in headers for name in _PROXIED):
        return False
    try:
        return ip_address(client[0]).is_loopback
    except ValueError:
        return False

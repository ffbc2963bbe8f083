"""Boundary of the app: every request passes its checks before a route sees it.

The names and origins are those of the access policy. Answers to pages of allowed sites carry the
headers of CORS (Fetch standard, "CORS protocol"); a `HEAD` is answered as its `GET` without a body.
Every answer carries the security headers.
"""

from http import HTTPStatus

from anyio import CancelScope
from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import Access, malformed_host
from api.errors import allowed_methods, problem, unforeseen
from api.security_headers import add_missing, security_headers

_EXPOSED_HEADERS = "ETag, Link, Location, Preference-Applied, Retry-After"
_PREFLIGHT_SECONDS = 600


class Boundary:
    """Middleware that refuses other hosts' and sites' requests, and answers OPTIONS and what no
    route foresaw."""

    def __init__(self, app: ASGIApp, access: Access, router: Router) -> None:
        self._app = app
        self._access = access
        self._router = router
        self._security = security_headers(shared=bool(access.origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        shared = _Begun(self._sharing(headers, self._securing(send)))
        try:
            answer = self._answer(scope, headers) or self._app
            await answer(scope, receive, shared)
        except Exception:
            # Raised on for the log, once it is answered: Starlette's own answer passes no boundary.
            if not shared.begun:
                await unforeseen()(scope, receive, shared)
            raise

    def _answer(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer that needs no route; None for a request that passes."""
        if fault := malformed_host(headers, scope["http_version"]):
            return problem(HTTPStatus.BAD_REQUEST, fault)
        if fault := (
            self._access.host_fault(headers) or self._access.origin_fault(scope["method"], headers)
        ):
            return problem(HTTPStatus.FORBIDDEN, fault)
        if scope["method"] != "OPTIONS":
            return None
        allowed = allowed_methods(self._router, scope)
        if not allowed:
            return None
        if "access-control-request-method" in headers:
            return self._preflight(headers, allowed)
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})

    def _preflight(self, headers: Headers, allowed: str) -> Response:
        origin = headers.get("origin")
        if not self._access.allows(origin):
            return problem(HTTPStatus.FORBIDDEN, self._access.refusal(origin))
        granted = {
            "Access-Control-Allow-Methods": allowed,
            "Access-Control-Allow-Headers": headers.get("access-control-request-headers", ""),
            "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
        }
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=granted)

    def _securing(self, send: Send) -> Send:
        """A `send` that adds the security headers."""

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_missing(message, self._security)
            await send(message)

        return secured

    def _sharing(self, headers: Headers, send: Send) -> Send:
        """A `send` that lets pages of allowed sites read the answer."""
        if not self._access.origins:
            return send
        origin = headers.get("origin")

        async def shared(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                # Caches must not give a page the copy that was made for another site's.
                answer.add_vary_header("Origin")
                if origin is not None and self._access.allows(origin):
                    answer["Access-Control-Allow-Origin"] = origin
                    answer["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
            await send(message)

        return shared


class _Begun:
    """A `send` that knows that an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def __call__(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


class HeadAsGet:
    """Middleware that answers a HEAD with the head of the GET's answer (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. What follows the answer's head is not waited for: a stream ends."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        get = {**scope, "method": "GET"}
        with CancelScope() as answering:

            async def head(message: Message) -> None:
                if message["type"] == "http.response.start":
                    # The metrics read the route from the request's own scope.
                    scope["route"] = get.get("route")
                    await send(message)
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    answering.cancel()

            await self._app(get, receive, head)

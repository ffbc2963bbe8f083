"""Errors in the words of another API, under its addresses alone.

Every error of the app is a problem (RFC 9457), wherever it comes from: the gate, the boundary, a
body, a route. A dialect writes it anew on its way out.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import MEDIA_TYPE

Problem = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Spelled:
    """A problem in a dialect's words, as JSON; with its status there."""

    content: Mapping[str, Any]
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers of the answer."""


class ErrorDialect:
    """Middleware that writes the problems under `prefixes` as `spell` has them."""

    def __init__(
        self, app: ASGIApp, prefixes: tuple[str, ...], spell: Callable[[Problem], Spelled]
    ) -> None:
        self._app = app
        self._prefixes = prefixes
        self._spell = spell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope["path"].startswith(self._prefixes):
            send = _Speller(send, self._spell)
        await self._app(scope, receive, send)


class _Speller:
    """A `send` that keeps a problem back until it is whole, and sends it in other words."""

    def __init__(self, send: Send, spell: Callable[[Problem], Spelled]) -> None:
        self._send = send
        self._spell = spell
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if Headers(raw=message["headers"]).get("content-type") != MEDIA_TYPE:
                await self._send(message)
                return
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_anew(self._start)

    async def _send_anew(self, start: Message) -> None:
        spelled = self._spell(json.loads(self._body))
        body = json.dumps(spelled.content).encode()
        headers = MutableHeaders(raw=list(start["headers"]))
        headers.update(spelled.headers)
        headers["content-type"] = "application/json"
        headers["content-length"] = str(len(body))
        await self._send({**start, "status": spelled.status, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})

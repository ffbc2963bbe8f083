"""HTTP/1 protocol of uvicorn, with bounds on what a connection may take before a request is whole.

What is refused here, and what is no HTTP, is answered by a problem like all others.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.errors import RETRY_SECONDS, problem
from api.security_headers import add_missing, security_headers

MAX_URL_BYTES = 16 * 2**10
MAX_HEAD_BYTES = 64 * 2**10
MAX_HEADERS = 100
LINGER_SECONDS = 1.0
"""How long the rest of a refused request is read, so that its answer arrives."""

_NO_HTTP = (
    "no HTTP/1.1 request that can be read: its first line, its headers or the framing of its body "
    "are wrong, or this is TLS, which a proxy before the server has to end"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of the server's connections."""

    connections: int
    """The most that are open at once; one more is answered 503."""
    request_seconds: float
    """The time from a connection, or a request's first byte, to the request's last byte."""


class _Refused(Exception):
    """Leaves the parser; the answer is chosen already."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools, within limits."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
        refused: Callable[[], None],
    ) -> None:
        """`limits` are ours, and so is `refused`, which is told of each connection too many; all
        else is uvicorn's.
        """
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._tell_refused = refused
        self._refused = False
        """True once a refusal is written: what still comes is thrown away."""
        self._refusal: tuple[HTTPStatus, str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes: int | None = 0
        """Bytes of a request's head that have come; None once the head is whole."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            detail = f"{self._limits.connections} connections are open; try again soon"
            logger.warning("a connection was refused: %s", detail)
            self._tell_refused()
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, detail, str(RETRY_SECONDS))
            return
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, unless it is more than a request's head may have."""
        if self._refused:
            return
        super().data_received(data)
        if self._head_bytes is None or self._refused:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._choose_too_large()
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_bytes = 0
        self._start_timer()

    def on_headers_complete(self) -> None:
        """A request's head is whole."""
        self._head_bytes = None
        if len(self.url) > MAX_URL_BYTES:
            detail = f"the address has {len(self.url)} bytes; at most {MAX_URL_BYTES} are taken"
            self._refusal = (HTTPStatus.REQUEST_URI_TOO_LONG, detail)
        size = sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._choose_too_large()
        if self._refusal:
            raise _Refused
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is whole; it may have come before all of the request's body."""
        self._stop_timer()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words
        """Answer what cannot be parsed, or was refused, and close."""
        status, detail = self._refusal or (
            HTTPStatus.BAD_REQUEST,
            _NO_HTTP,
        )
        self._answer(status, detail)

    def _choose_too_large(self) -> None:
        self._refusal = (
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"a request may have {MAX_HEADERS} headers with {MAX_HEAD_BYTES} bytes together",
        )

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self._limits.request_seconds, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        seconds = self._limits.request_seconds
        detail = f"the request was not whole after {seconds:g} s (--request-seconds)"
        if self._head_bytes == 0:
            self.transport.close()  # Nobody asked for anything.
        elif self.cycle is None or self.cycle.response_complete:
            self._answer(HTTPStatus.REQUEST_TIMEOUT, detail)
        else:
            # A route waits for the rest of its body: it learns that the caller is gone.
            self.transport.close()

    def _answer(self, status: HTTPStatus, detail: str, retry: str = "") -> None:
        headers = {"Connection": "close", **({"Retry-After": retry} if retry else {})}
        answer = problem(status, detail, headers=headers)
        start = {"headers": answer.raw_headers}
        add_missing(start, security_headers(shared=False))
        lines = [b"%s: %s\r\n" % header for header in start["headers"]]
        first = b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode())
        self.transport.write(b"".join([first, *lines, b"\r\n", bytes(answer.body)]))
        # To close with bytes unread resets the connection, and the caller may never see the answer.
        self._refused = True
        self._stop_timer()
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

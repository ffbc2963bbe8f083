"""A real web server on loopback that serves ranges, and misbehaves as it is told to."""

import contextlib
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

CHUNK = 4096


@dataclass
class Content:
    """A file of the server, and how it behaves about it."""

    body: bytes
    ranges: bool = True
    etag: str | None = "by its body"
    promised_length: bool = True
    content_type: str = "application/octet-stream"
    disposition: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    """The bearer token that it wants."""
    drops: list[int] = field(default_factory=list)
    """After how many bytes of the body each of the first answers breaks off."""
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the first answers."""
    redirect: str | None = None
    stall_after: int | None = None
    """From here on nothing is sent until `released`."""
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def tag(self) -> str | None:
        if self.etag != "by its body":
            return self.etag
        return f'"{hashlib.md5(self.body).hexdigest()}"'


@dataclass
class Request:
    """A request that came in, and its answer."""

    method: str
    path: str
    host: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


class Server:
    """`contents` by path; `requests` in the order in which they came."""

    def __init__(self) -> None:
        self.contents: dict[str, Content] = {}
        self.requests: list[Request] = []
        self._http = _Http(self)

    @property
    def port(self) -> int:
        return self._http.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def other_url(self) -> str:
        """The same server under another host's name."""
        return f"http://localhost:{self.port}"

    def gets(self, path: str) -> list[Request]:
        return [item for item in self.requests if item.path == path and item.method == "GET"]

    @contextlib.contextmanager
    def running(self) -> Iterator["Server"]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            for content in self.contents.values():
                content.released.set()
            self._http.shutdown()
            self._http.server_close()
            thread.join()


class _Http(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: Server) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Http

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers["host"], headers)
        self.server.owner.requests.append(request)
        content = self.server.owner.contents.get(self.path)
        if content is None:
            self._short(request, 404)
        elif content.refusals:
            self._short(request, *content.refusals.pop(0))
        elif content.token and headers.get("authorization") != f"Bearer {content.token}":
            self._short(request, 401)
        elif content.redirect:
            self._short(request, 302, {"Location": content.redirect, **content.headers})
        else:
            self._send(request, content, headers)

    def _short(self, request: Request, status: int, headers: dict[str, str] | None = None) -> None:
        request.status = status
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, request: Request, content: Content, headers: dict[str, str]) -> None:
        start = self._start(content, headers)
        if start is not None and start >= len(content.body):
            self._short(request, 416, {"Content-Range": f"bytes */{len(content.body)}"})
            return
        request.status = 200 if start is None else 206
        body = content.body[start or 0 :]
        self.send_response(request.status)
        self.send_header("Content-Type", content.content_type)
        if content.tag:
            self.send_header("ETag", content.tag)
        if content.disposition:
            self.send_header("Content-Disposition", content.disposition)
        for name, value in content.headers.items():
            self.send_header(name, value)
        if start is not None:
            last, total = len(content.body) - 1, len(content.body)
            self.send_header("Content-Range", f"bytes {start}-{last}/{total}")
        if content.promised_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command == "GET":
            self._body(request, content, body)

    def _body(self, request: Request, content: Content, body: bytes) -> None:
        end = len(body)
        if content.drops:
            end = min(end, content.drops.pop(0))
            self.close_connection = True
        while request.sent < end:
            if content.stall_after is not None and request.sent >= content.stall_after:
                content.stalled.set()
                content.released.wait()
            chunk = body[request.sent : min(request.sent + CHUNK, end)]
            try:
                self.wfile.write(chunk)
            except OSError:
                self.close_connection = True
                return
            request.sent += len(chunk)

    def _start(self, content: Content, headers: dict[str, str]) -> int | None:
        asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if asked is None or not content.ranges:
            return None
        if headers.get("if-range", content.tag) != content.tag:
            return None
        return int(asked[1])

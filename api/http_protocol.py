"""HTTP/1 protocol of uvicorn, whose refusal of what is no HTTP is a problem like all others."""

from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.errors import problem
from api.security_headers import security_headers


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words
        """Answer what cannot be parsed, and close."""
        answer = problem(
            HTTPStatus.BAD_REQUEST,
            "no HTTP/1.1 request that can be read: its first line, its headers or the framing of "
            "its body are wrong, or this is TLS, which a proxy before the server has to end",
            headers={"Connection": "close"},
        )
        headers = (*answer.raw_headers, *security_headers(shared=False))
        head = [b"%s: %s\r\n" % header for header in headers]
        self.transport.write(
            b"".join([b"HTTP/1.1 400 Bad Request\r\n", *head, b"\r\n", bytes(answer.body)])
        )
        self.transport.close()

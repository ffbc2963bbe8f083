"""Any text in the parts of a request that clients choose is answered, and never by a 500."""

import json
from pathlib import Path
from random import Random

import pytest

from tests.api.live import LiveServer
from tests.inputs import Inputs

NO_PICTURE = b'{"prompt": "x", "steps": 0}'
PICTURE = b'{"prompt": "x", "steps": 1, "width": 64, "height": 64, "seed": 1}'
NAMES = (b"..", b"/", b"%2e%2e%2f", b"%00", b".png", b"0" * 32, b"images", b"%ff", b"\\", b"%")


def any_bytes(chance: Random, longest: int) -> bytes:
    """Bytes that may stand in a line of HTTP, and some that may not."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(longest)).replace(b"\n", b"")
    return bytes(chance.randrange(33, 127) for _ in range(chance.randrange(1, longest)))


def answered(server: LiveServer, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to a request on a connection of its own."""
    head, _, body = server.send(request).partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    assert status < 500 or b"retry-after" in head.lower(), head
    return status, body


@pytest.mark.fuzz
def test_any_idempotency_key(server: LiveServer, inputs: Inputs) -> None:
    for chance in inputs:
        key = any_bytes(chance, 300)
        body = PICTURE if chance.random() < 0.02 else NO_PICTURE
        status, content = answered(
            server,
            b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nIdempotency-Key: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (key, len(body), body),
        )
        assert status in {202, 400, 422, 503}
        json.loads(content)


@pytest.mark.fuzz
def test_any_file_name(server: LiveServer, inputs: Inputs, tmp_path: Path) -> None:
    """No such name is a picture's, and none leads out of the folders of pictures."""
    kept = {path: path.read_bytes() for path in server.data.glob("images/*")}
    for chance in inputs:
        parts = chance.choices((*NAMES, any_bytes(chance, 20)), k=chance.randrange(1, 6))
        name = b"".join(parts).replace(b" ", b"").replace(b"?", b"").replace(b"#", b"")
        method = chance.choice((b"GET", b"HEAD", b"DELETE"))
        folder = chance.choice((b"images", b"thumbs"))
        status, content = answered(
            server,
            b"%b /api/%b/%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            % (method, folder, name),
        )
        assert status in {400, 404, 405}, (name, content)
    assert all(path.read_bytes() == content for path, content in kept.items())

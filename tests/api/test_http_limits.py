"""Bounds on a connection before its request is whole, over bare sockets."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from api.connections import SPARE_DESCRIPTORS, connection_bound
from api.http_protocol import MAX_HEAD_BYTES, MAX_HEADERS, MAX_URL_BYTES
from tests.api.live import PATIENCE, LiveServer, Options

CONNECTIONS = 12
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def narrow_door(
    tiny_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    flags = ("--request-seconds", "1", "--max-connections", str(CONNECTIONS))
    with LiveServer(Options(tiny_package, tmp_path_factory.mktemp("door"), flags=flags)) as running:
        yield running


def problem(answer: bytes, status: int) -> str:
    """The detail of the problem in an answer, after which the connection is closed."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    lines = head.lower().split(b"\r\n")
    assert b"connection: close" in lines
    assert b"content-type: application/problem+json" in lines
    assert b"x-content-type-options: nosniff" in lines
    content = json.loads(body)
    assert content["status"] == status
    detail: str = content["detail"]
    return detail


@pytest.mark.parametrize(
    "headers",
    [
        b"X: " + b"x" * MAX_HEAD_BYTES + b"\r\n",
        b"X: " + b"x" * (8 * MAX_HEAD_BYTES),
        b"".join(b"X-%d: x\r\n" % number for number in range(MAX_HEADERS)),
    ],
    ids=["one that is long", "one that has no end", "many"],
)
def test_headers_that_are_too_large_are_refused(server: LiveServer, headers: bytes) -> None:
    answer = server.send(HEALTH + headers + b"\r\n")
    assert str(MAX_HEAD_BYTES) in problem(answer, 431)


def test_an_address_that_is_too_long_is_refused(server: LiveServer) -> None:
    ask = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * MAX_URL_BYTES)
    assert str(MAX_URL_BYTES) in problem(server.send(ask), 414)


def test_headers_and_a_body_in_one_piece_are_no_large_head(server: LiveServer) -> None:
    body = b'{"prompt": "%b"}' % (b"x" * 2 * MAX_HEAD_BYTES)
    ask = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    assert server.send(ask).startswith(b"HTTP/1.1 422 ")


@pytest.mark.parametrize("half", [b"GET", HEALTH, HEALTH + b"X: x"], ids=["word", "line", "header"])
def test_half_a_request_is_not_waited_for(narrow_door: LiveServer, half: bytes) -> None:
    assert "--request-seconds" in problem(narrow_door.send(half), 408)


def test_half_a_body_is_not_waited_for(narrow_door: LiveServer) -> None:
    half = POST + b'Content-Length: 100\r\n\r\n{"prompt"'
    assert not narrow_door.send(half).startswith(b"HTTP/1.1 2")


def test_a_connection_that_asks_for_nothing_is_closed_without_a_word(
    narrow_door: LiveServer,
) -> None:
    assert narrow_door.send(b"") == b""


def test_a_stream_and_a_long_answer_outlive_the_time_of_a_request(narrow_door: LiveServer) -> None:
    job_id = narrow_door.api.submit(steps=100, width=512, height=512)
    with narrow_door.api.follow(job_id) as events:
        assert [event.status for event in events][-1] == "completed"


def test_one_connection_too_many_is_told_to_come_again(narrow_door: LiveServer) -> None:
    host, _, port = narrow_door.url.removeprefix("http://").partition(":")
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            one = stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))
            one.sendall(b"GET /api/sse/gallery HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = narrow_door.send(HEALTH + b"\r\n")
        assert "connections are open" in problem(answer, 503)
        assert b"retry-after: " in answer.lower()
    # Those that the server's own client keeps open count, too: more than one may be refused.
    assert narrow_door.api.wait_until(lambda: _refused(narrow_door)) >= 1


def _refused(server: LiveServer) -> float:
    """The connections that were refused, as the server counts them; 0 while it refuses them."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        page = client.get("/metrics").text
    counted = re.search(r'calotype_refusals_total{reason="connections"} (\S+)', page)
    return float(counted[1]) if counted else 0.0


def test_the_bound_leaves_descriptors_for_the_rest() -> None:
    most = connection_bound(None)
    assert most > SPARE_DESCRIPTORS
    assert connection_bound(10) == 10
    assert connection_bound(2**40) == most

"""A caller of a dialect that hangs up: its pictures are drawn all the same."""

import json
import socket
from typing import Any

import pytest

from tests.api.live import PATIENCE, Api, LiveServer

OPENAI = ("/v1/images/generations", {"size": "64x64"})
A1111 = ("/sdapi/v1/txt2img", {"width": 64, "height": 64})
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": OPENAI,
    "openai, a stream": (OPENAI[0], {**OPENAI[1], "stream": True}),
    "a1111": A1111,
}


@pytest.mark.parametrize("dialect", ASKED)
def test_the_picture_of_a_caller_that_has_gone_is_in_the_gallery(
    server: LiveServer, api: Api, dialect: str
) -> None:
    path, fields = ASKED[dialect]
    prompt = f"nobody waits for it, {dialect}"
    body = json.dumps({"prompt": prompt, "steps": 2, **fields}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    host, _, port = server.url.removeprefix("http://").partition(":")
    before = submitted(api)
    with api.held(), socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(head.encode() + body)
        api.wait_until(lambda: submitted(api) > before)
    found = api.wait_until(lambda: [each for each in newest(api) if each["prompt"] == prompt])
    assert api.job(found[0]["job_id"])["status"] == "completed"


def submitted(api: Api) -> float:
    """Jobs that were taken so far."""
    lines = api.client.get("/metrics").text.splitlines()
    (line,) = (each for each in lines if each.startswith("calotype_jobs_submitted_total "))
    return float(line.split()[-1])


def newest(api: Api) -> list[dict[str, Any]]:
    """The newest pictures of the gallery."""
    found: list[dict[str, Any]] = api.client.get("/api/images", params={"limit": 5}).json()[
        "images"
    ]
    return found

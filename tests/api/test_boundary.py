"""HTTP as monitors, browsers and proxies speak it, over a real server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api.access import Access
from api.boundary import Boundary, HeadAsGet
from api.errors import MEDIA_TYPE, handle_errors
from tests.api.live import Api, LiveServer, Options, refused, small

SITE = "https://app.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST"}


@pytest.fixture(scope="module")
def shared(tiny_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that pages of one other site may use, behind a proxy."""
    flags = ("--allowed-origins", SITE, "--allowed-hosts", "pictures.example")
    options = Options(
        tiny_package, tmp_path_factory.mktemp("data"), flags=(*flags, "--trust-forwarded-host")
    )
    with LiveServer(options) as running:
        yield running


@pytest.fixture(scope="module")
def finished(server: LiveServer) -> dict[str, str]:
    """The addresses of a batch that has ended, and of a job of it."""
    batch = server.api.submit_batch(n=2)
    server.api.events(f"batch/{batch['batch_id']}")
    job = server.api.job(batch["jobs"][0]["job_id"])
    image = job["image"]
    return {
        "batch_id": batch["batch_id"],
        "job_id": job["job_id"],
        "filename": image["filename"],
        "model": image["model"],
    }


def addresses(api: Api, finished: dict[str, str]) -> list[str]:
    """Every GET of the document, and what stands beside it."""
    paths = api.client.get("/openapi.json").json()["paths"]
    documented = [path for path, operations in paths.items() if "get" in operations]
    beside = ["/openapi.json", "/docs", "/docs/start.js", "/nowhere", "/api/sse/no-such-job"]
    beside += ["/v1/nowhere", "/sdapi/v1/nowhere"]
    return [path.format_map(finished) for path in documented] + beside


def test_head_is_get_without_a_body_everywhere(api: Api, finished: dict[str, str]) -> None:
    paths = addresses(api, finished)
    assert len(paths) > 12
    for path in paths:
        head = api.client.head(path)
        with api.client.stream("GET", path) as get:
            assert (head.status_code, head.content) == (get.status_code, b""), path
            differ = {"date", "transfer-encoding", "content-length"}
            for name in set(get.headers) - differ:
                assert head.headers[name] == get.headers[name], path
            # A page of metrics counts the requests before it.
            if path not in {"/metrics", "/health", "/api/info", "/api/images"}:
                assert head.headers.get("content-length") == get.headers.get("content-length")


def test_head_of_a_stream_leaves_nothing_open(server: LiveServer) -> None:
    """The connection goes on with the next request."""
    job_id = server.api.occupy()
    ask = b"HEAD /api/sse/%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    said = server.send(ask % b"gallery" + ask % job_id.encode() + last)
    server.api.cancel(job_id)
    assert said.count(b"HTTP/1.1 200 OK") == 3
    assert said.count(b"text/event-stream") == 2
    assert b"data:" not in said


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_error_of_ours_is_shared_with_allowed_sites(method: str) -> None:
    app = FastAPI()
    handle_errors(app)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Boundary, access=Access(origins=(SITE,)), router=app.router)

    @app.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError

    async def ask(headers: dict[str, str], *, raising: bool = False) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=raising)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, "/broken", headers=headers)

    answer = asyncio.run(ask({"Origin": SITE}))
    other = asyncio.run(ask({}))
    assert (answer.status_code, answer.headers["content-type"]) == (500, MEDIA_TYPE)
    assert answer.headers["access-control-allow-origin"] == SITE
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in other.headers
    # The log has the error: it leaves the app.
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask({}, raising=True))


def test_head_is_counted_as_head_under_its_route(api: Api) -> None:
    api.client.head("/ready")
    page = api.client.get("/metrics").text
    assert 'calotype_http_requests_total{method="HEAD",route="/ready",status="200"}' in page


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/health", "GET, HEAD"),
        ("PUT", "/api/generate", "POST"),
        ("HEAD", "/api/generate", "POST"),
        ("PATCH", "/api/jobs/x", "GET, HEAD, DELETE"),
        ("DELETE", "/docs", "GET, HEAD"),
    ],
)
def test_another_method_is_a_405_that_lists_what_is_allowed(
    api: Api, method: str, path: str, allow: str
) -> None:
    answer = api.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    asked = api.client.options(path)
    assert (asked.status_code, asked.headers["allow"]) == (204, allow)


def test_an_address_with_a_last_slash_is_told_without(api: Api) -> None:
    detail = refused(api.client.get("/health/"), 404)["detail"]
    assert detail == "nothing is at /health/; /health is written without the last /"
    assert "/docs says" in refused(api.client.options("/nowhere/"), 404)["detail"]


@pytest.mark.parametrize(
    "declared",
    [
        *("application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8"),
        *('application/json; charset="utf-8"', "Application/JSON", "application/vnd.x+json"),
    ],
)
def test_json_is_taken_under_every_name_of_it(api: Api, declared: str) -> None:
    answer = api.client.post("/api/generate", json={}, headers={"Content-Type": declared})
    assert "prompt" in refused(answer, 422)["detail"]


@pytest.mark.parametrize(
    "declared",
    [
        *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
        *("text/plain; application/json", "application/json, text/plain", "", ";", "json"),
        "application/json; charset=latin1",
    ],
)
def test_a_body_that_is_not_declared_json_is_a_415_that_says_what_to_send(
    api: Api, declared: str
) -> None:
    headers = {"Content-Type": declared}
    answer = api.client.post("/api/generate", json=small(), headers=headers)
    assert "JSON" in refused(answer, 415)["detail"]
    assert answer.headers["accept"] == "application/json"


def test_a_body_that_is_not_declared_at_all_or_is_packed_is_a_415(api: Api) -> None:
    bare = api.client.post("/api/generate", content=b"{}")
    assert "has no Content-Type" in refused(bare, 415)["detail"]
    packed = api.client.post("/api/generate", json={}, headers={"Content-Encoding": "gzip"})
    assert "send it plain" in refused(packed, 415)["detail"]
    assert packed.headers["accept-encoding"] == "identity"
    plain = api.client.post("/api/generate", json={}, headers={"Content-Encoding": "identity"})
    assert plain.status_code == 422


def test_a_refusal_keeps_the_connection_and_asks_for_no_body(server: LiveServer) -> None:
    head = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    length = b"Content-Length: 300000\r\n"
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    said = server.send(head + length + b"\r\n" + b"x" * 300_000 + last)
    assert said.startswith(b"HTTP/1.1 415")
    assert b"HTTP/1.1 200 OK" in said
    close = b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
    waiting = server.send(head + length + close)
    assert waiting.startswith(b"HTTP/1.1 415")


def test_another_site_and_another_host_are_refused(api: Api, finished: dict[str, str]) -> None:
    foreign = {"Origin": "http://evil.example"}
    picture = f"/api/images/{finished['filename']}"
    post = api.client.post("/api/generate", json=small(), headers=foreign)
    assert "--allowed-origins http://evil.example" in refused(post, 403)["detail"]
    refused(api.client.delete(picture, headers=foreign), 403)
    asked = api.client.options("/api/generate", headers={**foreign, **PREFLIGHT})
    refused(asked, 403)
    for path in ("/health", "/docs", "/api/sse/gallery", picture):
        answer = api.client.get(path, headers={"Host": "evil.example"})
        assert "Host 'evil.example' is no name of" in refused(answer, 403)["detail"]
    read = api.client.get(picture, headers=foreign)
    assert read.status_code == 200
    assert not any(name.startswith("access-control") for name in read.headers)


def test_pages_of_an_allowed_site_read_every_answer(shared: LiveServer) -> None:
    client, headers = shared.api.client, {"Origin": SITE}
    made = client.post("/api/generate", json=small(), headers=headers)
    job = shared.api.finish(made.json()["job_id"])
    url = job["image"]["url"]
    held = {**headers, "If-None-Match": client.get(url).headers["etag"]}
    answers = [
        made,
        client.get(url, headers=headers),
        client.get(url, headers=held),
        client.head("/api/sse/gallery", headers=headers),
        client.post("/api/generate", json={}, headers=headers),
        client.get("/nowhere", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [202, 200, 304, 200, 422, 404]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == SITE
        assert "Location" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"
    assert client.get(url).headers["vary"] == "Origin"


def test_a_preflight_is_answered_for_allowed_sites(shared: LiveServer) -> None:
    wanted = {"Access-Control-Request-Headers": "content-type,prefer", **PREFLIGHT}
    answer = shared.api.client.options("/api/generate", headers={"Origin": SITE, **wanted})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == SITE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "content-type,prefer"
    other = shared.api.client.options(
        "/api/generate", headers={"Origin": "http://evil.example", **wanted}
    )
    refused(other, 403)
    assert "access-control-allow-origin" not in other.headers


def test_a_proxys_name_is_ours_where_the_setting_says_so(shared: LiveServer, api: Api) -> None:
    headers = {"X-Forwarded-Host": "pictures.example", "Origin": "https://pictures.example"}

    def posted(client: httpx.Client) -> int:
        return client.post("/api/generate", json={}, headers=headers).status_code

    assert posted(shared.api.client) == 422
    assert posted(api.client) == 403


@pytest.mark.parametrize("host", [b"", b"Host: a\r\nHost: b\r\n", b"Host: a/b\r\n"])
def test_a_request_without_one_host_is_a_400(server: LiveServer, host: bytes) -> None:
    said = server.send(b"GET /health HTTP/1.1\r\nConnection: close\r\n" + host + b"\r\n")
    assert said.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in said
    old = server.send(b"GET /health HTTP/1.0\r\n\r\n")
    assert old.startswith(b"HTTP/1.1 200")

"""Security headers, over a real server."""

import pytest

from api.security_headers import add_missing, security_headers
from tests.api.live import Api, LiveServer

EVERYWHERE = {
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.mark.parametrize(
    ("path", "status"),
    [("/health", 200), ("/metrics", 200), ("/api/images", 200), ("/docs", 200), ("/nowhere", 404)],
)
def test_every_answer_has_them(api: Api, path: str, status: int) -> None:
    answer = api.client.get(path)
    assert answer.status_code == status
    assert EVERYWHERE.items() <= answer.headers.items()
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_a_stream_has_them(api: Api) -> None:
    with api.client.stream("GET", "/api/sse/gallery") as answer:
        assert EVERYWHERE.items() <= answer.headers.items()


def test_a_refused_host_and_what_is_no_http_have_them(server: LiveServer) -> None:
    foreign = b"GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    for content, status in ((foreign, b" 403 "), (b"\x16\x03\x01\x02\x00\x01\x00", b" 400 ")):
        said = server.send(content).lower()
        assert status in said.partition(b"\r\n")[0]
        for name, value in EVERYWHERE.items():
            assert f"{name}: {value}\r\n".lower().encode() in said


def test_a_page_keeps_its_own_policy_also_when_it_has_not_changed(api: Api) -> None:
    """A browser takes over the headers of a 304."""
    page = api.client.get("/docs")
    again = api.client.get("/docs", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304
    policies = [answer.headers.get_list("content-security-policy") for answer in (page, again)]
    assert policies[0] == policies[1]
    assert len(policies[0]) == 1
    assert "script-src 'self'" in policies[0][0]


def test_no_page_of_another_site_reads_an_answer_by_default(api: Api) -> None:
    answer = api.client.get("/api/images", headers={"Origin": "https://app.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_allowed_sites_may_show_pictures() -> None:
    assert (b"cross-origin-resource-policy", b"cross-origin") in security_headers(shared=True)


def test_a_routes_own_header_stays_the_only_one() -> None:
    own = (b"referrer-policy", b"origin")
    start = {"type": "http.response.start", "status": 200, "headers": [own]}
    add_missing(start, security_headers(shared=False))
    assert [header for header in start["headers"] if header[0] == own[0]] == [own]

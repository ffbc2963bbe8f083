"""`/`, the page to draw by: what is served of it, and how."""

from pathlib import Path

from api.routes.page import FOLDER
from api.static_files import MEDIA_TYPES
from tests.api.conftest import Starter
from tests.api.live import Api, Options, refused
from tests.api.routes.test_docs import Page

MOST_BYTES = 100_000
FILES = [path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES]


def test_the_page_names_its_files_by_relative_addresses(api: Api) -> None:
    page = api.client.get("/", headers={"Accept": "image/png"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    read = Page(page.text)
    assert not read.inline
    named = {address for address in read.loads if address != "docs"}
    scripts = {f"page/{path.name}" for path in FILES if path.name != "index.html"}
    assert named == scripts, "each module is named ahead, so that none waits for another"


def test_every_file_is_served_and_all_are_small(api: Api) -> None:
    sent = 0
    for path in FILES:
        answer = api.client.get(f"/page/{path.name}")
        assert answer.headers["content-type"].startswith(MEDIA_TYPES[path.suffix])
        assert answer.content == path.read_bytes()
        sent += len(answer.content)
    assert 0 < sent < MOST_BYTES


def test_a_copy_at_hand_is_not_sent_again(api: Api) -> None:
    for address in ("/", "/page/start.js"):
        first = api.client.get(address)
        assert first.headers["cache-control"] == "no-cache"
        again = api.client.get(address, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_policy_lets_nothing_in_from_elsewhere_and_no_text_become_html(api: Api) -> None:
    rules = api.client.get("/").headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'"} <= set(rules)
    assert {"connect-src 'self'", "img-src 'self' data:", "frame-ancestors 'none'"} <= set(rules)
    assert {"require-trusted-types-for 'script'", "trusted-types 'none'"} <= set(rules)
    assert "unsafe" not in " ".join(rules)


def test_nothing_else_is_served_there(api: Api) -> None:
    for name in ("nothing.js", "..%2fapp.py", "..%5capp.py", "%00.js", ""):
        refused(api.client.get(f"/page/{name}"), 404)


def test_a_server_without_a_page_answers_all_the_rest(
    tiny_package: Path, tmp_path: Path, start: Starter
) -> None:
    api = start(Options(tiny_package, tmp_path, flags=("--no-page",))).api
    assert "/docs" in refused(api.client.get("/"), 404)["detail"]
    refused(api.client.get("/page/start.js"), 404)
    assert api.client.get("/api/info").status_code == 200

"""`/docs`, which needs no network."""

import re
from html.parser import HTMLParser

from api.routes.docs import FOLDER
from tests.api.live import Api, refused


class Page(HTMLParser):
    """A page: the addresses that it loads, the scripts and styles that stand in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.loads += [value or "" for name, value in attrs if name in {"src", "href"}]
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._open in {"script", "style"} and data.strip():
            self.inline.append(data)


def test_the_page_and_all_that_it_loads_come_from_this_server(api: Api) -> None:
    page = api.client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    read = Page(page.text)
    assert len(read.loads) == 4
    assert not read.inline
    for address in read.loads:
        if address.startswith("data:"):
            continue
        assert not re.match(r"/|\w+:", address), "relative, so that a proxy's prefix is kept"
        answer = api.client.get(f"/{address}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content == (FOLDER / address.removeprefix("docs/")).read_bytes()
    assert api.client.get("/openapi.json").status_code == 200


def test_the_policy_lets_nothing_in_from_elsewhere(api: Api) -> None:
    rules = [
        rule.split()
        for rule in api.client.get("/docs").headers["content-security-policy"].split(";")
    ]
    policy = {name: sources for name, *sources in rules}
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
    assert policy["frame-ancestors"] == ["'none'"]


def test_a_copy_at_hand_is_not_sent_again(api: Api) -> None:
    first = api.client.get("/docs/swagger-ui-bundle.js")
    held = {"If-None-Match": first.headers["etag"]}
    again = api.client.get("/docs/swagger-ui-bundle.js", headers=held)
    assert (again.status_code, again.content) == (304, b"")


def test_nothing_else_of_the_folder_is_served(api: Api) -> None:
    for name in ("README.md", "LICENSE", "..%2fapp.py", ""):
        refused(api.client.get(f"/docs/{name}"), 404)
    for kept in ("LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"):
        assert (FOLDER / kept).stat().st_size > 0

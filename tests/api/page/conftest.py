"""A browser for the tests of the page: each test is a visit in a context of its own.

Playwright's loop runs in the thread of the tests, where others run loops of their own: it is closed
at the end of each module.
"""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from benchmarks.browser import NAMES, browsing, find_browser
from tests.api.live import LiveServer, Options
from tests.places import ENGINES

MILLISECONDS = 20_000
"""Patience with the page: what it waits for takes far less on an idle machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium that the machine has."""
    found = find_browser()
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)}")
    expect.set_options(timeout=MILLISECONDS)
    with browsing(found) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of the demo model, which draws one picture at a time."""
    data = tmp_path_factory.mktemp("site")
    flags = ("--max-batch", "1")
    with LiveServer(Options(ENGINES, data, model="demo", flags=flags)) as running:
        yield running


class Visitor:
    """A person at a browser: opens pages, and notes what no page may do."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._hosts: set[str] = set()
        self.strangers: list[str] = []
        self._errors: list[str] = []
        self._expected: list[str] = []

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """The page at this address, once its form is there."""
        page = self.come(url, width=width, height=height, dark=dark)
        expect(page.get_by_role("button", name="Generate")).to_be_enabled()
        return page

    def come(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """The page at this address in a new context, whatever it shows."""
        self._hosts.add(urlsplit(url).netloc)
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        self._contexts.append(context)
        context.set_default_timeout(MILLISECONDS)
        context.on("request", lambda request: self._note_request(request.url))
        context.on("console", lambda line: self._note_error(line.type, line.text))
        context.on("weberror", lambda event: self._errors.append(str(event.error)))
        page = context.new_page()
        page.goto(url)
        return page

    def expects(self, pattern: str) -> None:
        """Lines like this in the console are this test's own doing."""
        self._expected.append(pattern)

    def leave(self) -> None:
        """Close every page; what was noted is in `strangers` and `errors`."""
        for context in self._contexts:
            context.close()

    @property
    def errors(self) -> list[str]:
        """Lines of the console that no test expects, violations of the policy among them."""
        return [
            text
            for text in self._errors
            if not any(re.search(pattern, text) for pattern in self._expected)
        ]

    def _note_request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "data" and parts.netloc not in self._hosts:
            self.strangers.append(url)

    def _note_error(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self._errors.append(text)


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """Visits that ask no other host for anything, and leave no error in the console."""
    person = Visitor(browser)
    yield person
    person.leave()
    assert person.strangers == []
    assert person.errors == []


@pytest.fixture
def page(visitor: Visitor, site: LiveServer) -> Page:
    """The site's page, opened."""
    return visitor.open(site.url)

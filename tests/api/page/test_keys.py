"""The page of a server that takes keys."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from api.keys import KeyFile, Scope
from tests.api.live import LiveServer, Options
from tests.api.page.acts import ask_for, expect_finished, tiles
from tests.api.page.conftest import Visitor
from tests.places import ENGINES


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile(tmp_path_factory.mktemp("keyed"))


@pytest.fixture(scope="module")
def painter(keys: KeyFile) -> str:
    return keys.create("painter", Scope.GENERATE)


@pytest.fixture(scope="module")
def keyed(keys: KeyFile, painter: str) -> Iterator[LiveServer]:
    with LiveServer(Options(ENGINES, keys.path.parent, model="demo", flags=("--keys",))) as running:
        yield running


@pytest.fixture
def refused_page(visitor: Visitor, keyed: LiveServer) -> Page:
    """The page, which asks for a key."""
    visitor.expects("status of 40[13]")
    page = visitor.come(keyed.url)
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    return page


def test_a_key_opens_the_page_until_one_signs_out(
    refused_page: Page, painter: str, keyed: LiveServer
) -> None:
    page = refused_page
    key = page.get_by_label("Key", exact=True)
    key.fill("calo_wrong")
    key.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("none of this server's")
    key.fill(painter)
    key.press("Enter")
    expect_finished(ask_for(page, "a blue diamond", Steps=2))
    expect(tiles(page)).to_have_count(1)
    page.reload()
    expect(tiles(page)).to_have_count(1)
    held = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert painter not in held

    tiles(page).first.click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Really delete?").click()
    expect(page.get_by_role("alert")).to_contain_text("takes admin")
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    expect(tiles(page)).to_have_count(0)


def test_a_revoked_key_is_asked_for_again_and_the_words_stay(
    refused_page: Page, keys: KeyFile
) -> None:
    page = refused_page
    key = page.get_by_label("Key", exact=True)
    for name in ("first", "second"):
        key.fill(keys.create(name, Scope.GENERATE))
        key.press("Enter")
        expect(page.get_by_role("button", name="Generate")).to_be_enabled()
        if name == "first":
            page.get_by_label("Prompt", exact=True).fill("a purple octopus")
            keys.revoke("first")
            page.get_by_role("button", name="Generate").click()
            expect(key).to_be_focused()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a purple octopus")


def test_whoever_has_no_key_is_asked_once(refused_page: Page) -> None:
    page = refused_page
    followed: list[str] = []
    page.on("request", lambda request: followed.append(request.url))
    page.clock.install()
    page.reload()
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    page.clock.fast_forward(60_000)
    page.evaluate("fetch('/health').then(answer => answer.json())")
    assert len([url for url in followed if url.endswith("/api/sse/gallery")]) == 1
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#connection")).to_contain_text("takes a key")

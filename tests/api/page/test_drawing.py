"""The page draws: from a prompt to its picture, over reloads and restarts, by keyboard alone."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.api.live import LiveServer, Options
from tests.api.page.acts import ask_for, card, expect_finished, state, tiles
from tests.api.page.conftest import Visitor
from tests.places import ENGINES

LONG = 100
"""Steps of a picture whose middle is met."""
WATCH_STAGE = """() => {
    window.shown = new Set();
    const note = () => window.shown.add(document.querySelector("#stage img")?.src);
    const everything = {subtree: true, childList: true, attributes: true};
    new MutationObserver(note).observe(document.querySelector("#stage"), everything);
}"""
"""Notes every address that the picture on the stage has."""


@pytest.fixture(autouse=True)
def _nothing_left(site: LiveServer) -> Iterator[None]:
    yield
    site.api.cancel_all()


def test_a_prompt_becomes_a_picture_that_is_seen_to_take_shape(
    page: Page, site: LiveServer
) -> None:
    page.evaluate(WATCH_STAGE)
    drawn = ask_for(page, "a red heart on a blue background", Steps=LONG)
    expect_finished(drawn)
    shown = page.evaluate("[...window.shown]")
    previews = {address for address in shown if (address or "").startswith("data:image/jpeg")}
    assert len(previews) > 2
    expect(tiles(page)).to_have_count(1)
    image = site.api.client.get("/api/images").json()["images"][0]
    assert image["prompt"] == "a red heart on a blue background"
    assert site.api.job(image["job_id"])["request"]["steps"] == LONG
    expect(state(drawn)).to_contain_text(str(image["seed"]))


def test_a_job_that_waits_shows_its_place_and_is_canceled(page: Page, site: LiveServer) -> None:
    with site.api.held():
        site.api.submit()
        ask_for(page, "a lemon")
        waiting = ask_for(page, "a green car")
        expect(state(waiting)).to_have_text("Waiting: place 2 in the queue")
        waiting.get_by_role("button", name="Cancel").click()
        expect(state(waiting)).to_have_text("Canceled")
        expect(waiting.get_by_role("progressbar")).to_have_count(0)
    expect_finished(card(page, "a lemon"))


def test_a_picture_is_canceled_in_its_middle(page: Page) -> None:
    drawn = ask_for(page, "a blue whale", Steps=LONG, Width=160, Height=160)
    expect(state(drawn)).to_contain_text("Step")
    drawn.get_by_role("button", name="Cancel").click()
    expect(state(drawn)).to_have_text("Canceled")


def test_a_reload_in_the_middle_goes_on_with_the_job_and_the_words(
    page: Page, site: LiveServer
) -> None:
    drawn = ask_for(page, "a yellow bee", Steps=LONG, Width=160, Height=160)
    expect(state(drawn)).to_contain_text("Step")
    with site.api.held():
        page.get_by_label("Negative prompt").fill("typed before the reload")
        page.reload()
        expect(state(card(page, "a yellow bee"))).to_contain_text("Step")
        expect(page.get_by_label("Prompt", exact=True)).to_have_value("a yellow bee")
        expect(page.get_by_label("Negative prompt")).to_have_value("typed before the reload")
        expect(page.get_by_label("Steps", exact=True)).to_have_value(str(LONG))
    expect_finished(card(page, "a yellow bee"))
    page.reload()
    expect(tiles(page).first).to_be_visible()
    expect(page.locator("#stage .card")).to_have_count(0)


def test_a_restart_of_the_server_in_the_middle_is_told_and_the_job_goes_on(
    visitor: Visitor, tmp_path: Path
) -> None:
    visitor.expects("net::ERR_|status of 503")
    options = Options(ENGINES, tmp_path, model="demo")
    with LiveServer(options) as first:
        page = visitor.open(first.url)
        drawn = ask_for(page, "a red apple", Steps=LONG, Width=160, Height=160)
        expect(state(drawn)).to_contain_text("Step")
        first.end(signal.SIGKILL)
        expect(page.get_by_text("The server does not answer.")).to_be_visible()
        expect(state(drawn)).to_contain_text("Step")
        port = first.url.rpartition(":")[2]
    with LiveServer(Options(ENGINES, tmp_path, model="demo", flags=("--port", port))):
        expect(page.get_by_text("The server is back.")).to_be_visible()
        expect_finished(drawn)
        expect(tiles(page)).to_have_count(1)


def test_several_pictures_of_one_request(page: Page, site: LiveServer) -> None:
    before = len(site.api.client.get("/api/images").json()["images"])
    expect(tiles(page)).to_have_count(before)
    ask_for(page, "a crown on a pink background", Pictures=5, Seed=7, Steps=4)
    cards = page.locator("#stage .card")
    expect(cards).to_have_count(5)
    expect(cards.filter(has_text="Finished")).to_have_count(5)
    seeds = [state(each).inner_text().split()[-1] for each in cards.all()]
    assert sorted(seeds) == ["10", "11", "7", "8", "9"]
    expect(tiles(page)).to_have_count(before + 5)

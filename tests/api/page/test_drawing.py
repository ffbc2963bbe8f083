"""The page draws: from a prompt to its picture, over reloads and restarts, by keyboard alone."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.api.live import LiveServer, Options
from tests.api.page.acts import (
    ask_for,
    card,
    expect_finished,
    fault_of,
    field,
    state,
    tiles,
)
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
    # Large, so that previews have time on a busy machine, too.
    drawn = ask_for(page, "a red heart on a blue background", Steps=LONG, Width=160, Height=160)
    expect_finished(drawn)
    shown = page.evaluate("[...window.shown]")
    previews = {address for address in shown if (address or "").startswith("data:image/jpeg")}
    assert len(previews) > 2
    expect(tiles(page)).to_have_count(1)
    image = site.api.client.get("/api/images").json()["images"][0]
    assert image["prompt"] == "a red heart on a blue background"
    assert site.api.job(image["job_id"])["request"]["steps"] == LONG
    expect(drawn).to_contain_text(f"seed {image['seed']}")


def test_a_key_that_is_held_down_sends_once(page: Page, site: LiveServer) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    field(page, "Prompt").fill("a red heart")
    for _ in range(5):  # Pressed again without being let go, a key repeats.
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    expect_finished(card(page, "a red heart"))
    assert sent.count("POST") == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": 200, "body": "<p>Sign in.</p>"}, "The server's answer could not be read."),
        ({"status": 202, "body": '{"job_id": "'}, "The server's answer could not be read."),
        ({"status": 403, "json": {"error": "no"}}, "The server answered 403."),
        ({"status": 502, "body": "<p>Bad gateway</p>"}, "The server answered 502."),
    ],
    ids=["portal", "cut", "foreign", "proxy"],
)
def test_an_answer_that_is_none_of_the_servers_is_said_to_be(
    page: Page, visitor: Visitor, answer: dict[str, Any], told: str
) -> None:
    visitor.expects("status of 403|status of 502")
    page.route("**/api/generate", lambda route: route.fulfill(**answer))
    field(page, "Prompt").fill("a red heart")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text(told)
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()


def test_the_page_says_that_it_needs_javascript(page: Page) -> None:
    # A browser of Playwright without JavaScript does not show it: its parser has scripts.
    assert "This page draws by JavaScript" in (page.locator("noscript").text_content() or "")


def test_a_browser_that_keeps_nothing_draws_all_the_same(
    visitor: Visitor, site: LiveServer
) -> None:
    page = visitor.come(site.url)
    page.add_init_script(
        "for (const name of ['getItem', 'setItem', 'removeItem'])"
        " Storage.prototype[name] = () => { throw new DOMException('none'); };"
    )
    page.reload()
    expect_finished(ask_for(page, "a lemon", Steps=2))


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


def test_words_that_were_typed_before_the_model_was_known_stay(page: Page) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/info", hold)
    page.reload()
    field(page, "Prompt").fill("typed at once")
    expect(page.get_by_role("button", name="Generate")).to_be_disabled()
    held[0].continue_()
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()
    expect(field(page, "Prompt")).to_have_value("typed at once")
    expect(field(page, "Prompt")).to_be_focused()


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
    with LiveServer(Options(ENGINES, tmp_path, model="demo", flags=("--port", port))) as second:
        expect(page.get_by_text("The server is back.")).to_be_visible()
        # However long that takes: what is told of it then is the page's affair.
        second.api.wait_until(lambda: second.api.client.get("/api/images").json()["images"])
        expect_finished(drawn)
        expect(tiles(page)).to_have_count(1)


def test_several_pictures_of_one_request(page: Page, site: LiveServer) -> None:
    before = len(site.api.client.get("/api/images").json()["images"])
    expect(tiles(page)).to_have_count(before)
    ask_for(page, "a crown on a pink background", Pictures=5, Seed=7, Steps=4)
    cards = page.locator("#stage .card")
    expect(cards).to_have_count(5)
    expect(cards.filter(has_text="Finished")).to_have_count(5)
    for seed, each in zip(range(7, 12), cards.all(), strict=True):
        expect(each).to_contain_text(f"seed {seed}")
    expect(tiles(page)).to_have_count(before + 5)


def test_a_lora_is_drawn_with_the_weight_of_its_slider(page: Page, site: LiveServer) -> None:
    expect(page.get_by_text("Trigger words: drawing")).to_be_visible()
    slider = page.get_by_label("Monochrome, weight, slider")
    expect(slider).to_be_hidden()
    page.get_by_role("checkbox", name="Monochrome").check()
    assert (slider.get_attribute("min"), slider.get_attribute("max")) == ("-2", "2")
    slider.fill("-0.5")
    expect(field(page, "Monochrome, weight")).to_have_value("-0.5")
    drawn = ask_for(page, "a fox on a purple background", Steps=2)
    expect_finished(drawn)
    image = site.api.client.get("/api/images").json()["images"][0]
    loras = site.api.job(image["job_id"])["request"]["loras"]
    assert loras == [{"id": "monochrome", "weight": -0.5, "trigger_weight": 0.5}]
    expect(drawn).to_contain_text("monochrome -0.5")


def test_wrong_input_is_refused_beside_its_field_and_nothing_is_lost(
    page: Page, site: LiveServer
) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    page.get_by_role("button", name="Generate").click()
    expect(fault_of(page, "Prompt")).to_have_text("Say what the picture shows.")
    expect(field(page, "Prompt")).to_be_focused()
    ask_for(page, "a house", Steps=101, Width=100, Seed=-1)
    for label in ("Steps", "Width", "Seed"):
        expect(fault_of(page, label)).to_be_visible()
        expect(field(page, label)).to_have_attribute("aria-invalid", "true")
    expect(field(page, "Width")).to_be_focused()
    assert "POST" not in sent
    for label, value in (("Steps", 2), ("Width", 96), ("Seed", 3)):
        field(page, label).fill(str(value))
        expect(fault_of(page, label)).to_be_hidden()
    field(page, "Seed").press("Enter")
    expect_finished(card(page, "a house"))


def test_what_the_server_refuses_stands_beside_its_field_too(page: Page, visitor: Visitor) -> None:
    """The server may know better than the schema, as here after the bounds were taken away."""
    visitor.expects("status of 422")
    page.evaluate("document.querySelector('#field-steps').removeAttribute('max')")
    ask_for(page, "a house", Steps=1000)
    expect(fault_of(page, "Steps")).to_contain_text("100")
    expect(field(page, "Steps")).to_be_focused()
    expect(field(page, "Prompt")).to_have_value("a house")


def test_a_prompt_beyond_the_models_words_is_warned_of(page: Page) -> None:
    page.get_by_text("What this model can draw").click()
    page.get_by_role("button", name="umbrella", exact=True).click()
    expect(field(page, "Prompt")).to_have_value("an umbrella")
    drawn = ask_for(page, "a cathedral", Steps=2)
    expect(drawn).to_contain_text("names nothing that this model can draw")


def test_a_request_whose_answer_was_lost_is_drawn_once(
    page: Page, visitor: Visitor, site: LiveServer
) -> None:
    visitor.expects("net::ERR_")

    def answered_too_late(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/api/generate", answered_too_late, times=1)
    page.get_by_label("Prompt", exact=True).fill("a rocket, once")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_have_text("The server does not answer.")
    page.get_by_role("button", name="Generate").click()
    expect_finished(card(page, "a rocket, once"))
    images = site.api.client.get("/api/images").json()["images"]
    assert [image["prompt"] for image in images].count("a rocket, once") == 1

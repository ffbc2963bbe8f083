"""The page's gallery: what others draw, and what can be done with a picture."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from tests.api.live import LiveServer
from tests.api.page.acts import field, tiles
from tests.api.page.conftest import Visitor

SETTINGS = {
    "prompt": "a pumpkin on a blue background",
    "negative_prompt": "a star",
    "width": 96,
    "height": 128,
    "steps": 3,
    "seed": 77,
    "sampler": "heun",
    "cfg_scale": 5.5,
    "clip_skip": 1,
    "guidance_interval": [0.1, 0.9],
    "loras": [{"id": "monochrome", "weight": 0.25}],
}

FRAMES = """async count => {
    for (let left = count; left > 0; left--) await new Promise(requestAnimationFrame);
}"""
"""Waits for so many frames of the page."""


@pytest.fixture(autouse=True)
def _empty(site: LiveServer) -> Iterator[None]:
    """Each test begins without pictures."""
    yield
    client = site.api.client
    for image in client.get("/api/images?limit=200").json()["images"]:
        client.delete(image["url"])


def draw(site: LiveServer, **body: object) -> str:
    """Another client's picture; its file name."""
    job = site.api.finish(site.api.submit(steps=1, **body))
    filename: str = job["image"]["filename"]
    return filename


def shown(page: Page) -> list[str]:
    """The prompts of the pictures in the gallery, newest first."""
    return [tile.get_attribute("alt") or "" for tile in page.locator("#gallery img").all()]


def test_pictures_of_other_clients_come_and_go_by_themselves(page: Page, site: LiveServer) -> None:
    expect(page.get_by_text("No pictures yet.")).to_be_visible()
    first = draw(site, prompt="a cat")
    expect(tiles(page)).to_have_count(1)
    expect(page.get_by_text("No pictures yet.")).to_be_hidden()
    draw(site, prompt="a dog")
    expect(tiles(page)).to_have_count(2)
    assert shown(page) == ["a dog", "a cat"]
    site.api.client.delete(f"/api/images/{first}")
    expect(tiles(page)).to_have_count(1)
    assert shown(page) == ["a dog"]


def test_more_comes_on_scrolling(visitor: Visitor, site: LiveServer) -> None:
    draw_many(site, 65, "a star")
    page = visitor.open(site.url, height=400)
    expect(tiles(page)).to_have_count(60)
    expect(page.get_by_role("button", name="Show more")).to_be_attached()
    tiles(page).last.scroll_into_view_if_needed()
    expect(tiles(page)).to_have_count(65)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    assert len(set(shown(page))) == 65


def test_a_pictures_settings_are_used_again(page: Page, site: LiveServer) -> None:
    job = site.api.finish(site.api.submit(**SETTINGS))
    tiles(page).first.click()
    viewer = page.get_by_role("dialog")
    for text in ("96 × 128", "77", "heun", "5.5", "0.1 to 0.9", "monochrome, weight 0.25"):
        expect(viewer.get_by_text(text, exact=True)).to_be_visible()
    viewer.get_by_role("button", name="Use these settings").click()
    expect(viewer).to_be_hidden()
    expect(field(page, "Prompt")).to_be_focused()
    field(page, "Prompt").press("Enter")
    expect(tiles(page)).to_have_count(2)
    images = site.api.client.get("/api/images").json()["images"]
    assert site.api.job(images[0]["job_id"])["request"] == job["request"]
    first, second = (site.api.client.get(image["url"]).content for image in images)
    assert first == second


def test_settings_that_this_model_does_not_take_are_named(page: Page, site: LiveServer) -> None:
    job = site.api.finish(site.api.submit(**SETTINGS))
    job["request"] |= {"loras": [{"id": "ink", "weight": 1}], "sampler": "unknown", "shift": 3}
    page.route("**/api/jobs/*", lambda route: route.fulfill(json=job))
    tiles(page).first.click()
    page.get_by_role("button", name="Use these settings").click()
    expect(page.get_by_role("alert")).to_have_text(
        "Not taken here, and left out: LoRAs, Sampler, Shift."
    )
    expect(field(page, "Seed")).to_have_value("77")
    expect(page.get_by_label("Sampler")).to_have_value("euler_a")


def test_a_picture_is_downloaded_and_deleted_when_asked_twice(page: Page, site: LiveServer) -> None:
    names = [draw(site, prompt=f"a {thing}") for thing in ("bee", "crab")]
    expect(tiles(page)).to_have_count(2)
    tiles(page).first.click()
    viewer = page.get_by_role("dialog")
    with page.expect_download() as download:
        viewer.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == names[1]
    picture = site.api.client.get(f"/api/images/{names[1]}").content
    assert download.value.path().read_bytes() == picture
    viewer.get_by_role("button", name="Delete").click()
    assert site.api.client.get(f"/api/images/{names[1]}").status_code == 200
    viewer.get_by_role("button", name="Really delete?").click()
    expect(viewer.get_by_text("a bee")).to_be_visible()
    expect(tiles(page)).to_have_count(1)
    assert site.api.client.get(f"/api/images/{names[1]}").status_code == 404


def test_a_picture_whose_job_is_gone_still_has_a_recipe(
    page: Page, visitor: Visitor, site: LiveServer
) -> None:
    draw(site, prompt="a whale", seed=5)
    visitor.expects("status of 404")
    page.route("**/api/jobs/*", lambda route: route.fulfill(status=404, json={}))
    tiles(page).first.click()
    expect(page.get_by_role("dialog").get_by_text("64 × 64")).to_be_visible()
    page.get_by_role("button", name="Use these settings").click()
    expect(field(page, "Seed")).to_have_value("5")


def test_a_prompt_is_text_and_never_html(page: Page, site: LiveServer) -> None:
    hostile = "<img src=x onerror=alert(1)><b>bold</b>"
    draw(site, prompt=hostile)
    tiles(page).first.click()
    expect(page.get_by_role("dialog").get_by_text(hostile)).to_be_visible()
    expect(page.locator("b")).to_have_count(0)


def test_a_hidden_page_holds_no_connection_and_catches_up_when_it_is_seen(
    page: Page, site: LiveServer
) -> None:
    first = draw(site, prompt="a lion")
    expect(tiles(page)).to_have_count(1)
    look(page, hidden=True)
    site.api.wait_until(lambda: is_followed(site, 0))
    site.api.client.delete(f"/api/images/{first}")
    draw(site, prompt="a monkey")
    look(page, hidden=False)
    expect(page.locator("#gallery img")).to_have_attribute("alt", "a monkey")
    assert is_followed(site, 1)


def draw_many(site: LiveServer, count: int, prompt: str) -> None:
    """Pictures of another client."""
    jobs = [site.api.submit(prompt=f"{prompt} {n}", steps=1) for n in range(count)]
    for job in jobs:
        site.api.finish(job)


def test_more_pictures_than_a_page_are_caught_up_with(page: Page, site: LiveServer) -> None:
    first = draw(site, prompt="a lion")
    expect(tiles(page)).to_have_count(1)
    look(page, hidden=True)
    site.api.wait_until(lambda: is_followed(site, 0))
    draw_many(site, 62, "a monkey")
    site.api.client.delete(f"/api/images/{first}")
    look(page, hidden=False)
    expect(page.locator("#gallery img[alt='a monkey 61']")).to_be_attached()
    expect(page.locator("#gallery img[alt='a lion']")).to_have_count(0)
    tiles(page).last.scroll_into_view_if_needed()
    expect(tiles(page)).to_have_count(62)
    assert sorted(shown(page)) == sorted(f"a monkey {n}" for n in range(62))


def test_pictures_whose_files_were_taken_away_hide_no_others(page: Page, site: LiveServer) -> None:
    draw(site, prompt="a lion")
    listed = site.api.client.get("/api/images").json()["images"]
    gone = {"images": [], "next_cursor": "x"}
    answers = {"": gone, "x": {"images": listed, "next_cursor": None}}
    page.route(
        "**/api/images?*",
        lambda route: route.fulfill(json=answers[route.request.url.partition("cursor=")[2]]),
    )
    page.reload()
    expect(page.locator("#gallery img")).to_have_attribute("alt", "a lion")
    expect(page.get_by_text("No pictures yet.")).to_be_hidden()


def test_a_page_that_cannot_be_had_is_not_asked_for_again_and_again(
    visitor: Visitor, site: LiveServer
) -> None:
    draw_many(site, 62, "a star")
    visitor.expects("Failed to load resource")
    page = visitor.open(site.url, height=400)
    expect(tiles(page)).to_have_count(60)
    asked: list[str] = []

    def fail(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=503, json={})

    page.route("**/api/images?*cursor=*", fail)
    more = page.get_by_role("button", name="Show more")
    with page.expect_response("**/api/images?*cursor=*"):
        more.scroll_into_view_if_needed()
    # Frames in which a button that is watched would be pressed.
    page.evaluate(FRAMES, 20)
    assert len(asked) == 1
    page.unroute("**/api/images?*cursor=*")
    more.click()
    expect(tiles(page)).to_have_count(62)


def look(page: Page, *, hidden: bool) -> None:
    """Turn to another tab, or back."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def is_followed(site: LiveServer, times: int) -> bool:
    """True while so many follow the gallery."""
    line = f'calotype_streams_open{{stream="gallery"}} {float(times)}\n'
    return line in site.api.client.get("/metrics").text

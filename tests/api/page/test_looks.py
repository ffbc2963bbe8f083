"""The page as it looks: narrow, dark, accessible, quick, and in a picture for the README."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from tests.api.live import LiveServer
from tests.api.page.acts import ask_for, fault_of, field, state, tiles
from tests.api.page.conftest import Visitor

SCREENSHOTS = os.environ.get("SCREENSHOTS")
"""A folder that the README's picture is written to, beside the test's own."""
DRAWN = """
a cat on a yellow background, a sunflower on a green background, a rocket on a purple background,
a hamburger on a white background, a penguin on a red background, a tulip on a blue background,
a house on a pink background, a robot on a green background, a strawberry on a white background,
a panda on an orange background, a car on a purple background, a star on a blue background,
a cupcake on a blue background, an owl on a pink background, a balloon on a green background,
a fox on a yellow background, a mushroom on a green background, a pizza on a purple background,
a frog on a white background, a butterfly on an orange background, a pumpkin on a blue background,
a crab on a yellow background, a bell on a red background, a carrot on a pink background
"""
PROMPTS = [each.strip() for each in DRAWN.split(",")]
NARROW = 360


@pytest.fixture(scope="module", autouse=True)
def _drawn(site: LiveServer) -> None:
    """Pictures in the gallery."""
    jobs = [
        site.api.submit(prompt=prompt, seed=number, steps=12, width=128, height=128)
        for number, prompt in enumerate(PROMPTS)
    ]
    for job in jobs:
        site.api.finish(job)


@contextmanager
def in_the_middle(page: Page, site: LiveServer, prompt: str) -> Iterator[None]:
    """A picture of this prompt stands still while it is drawn."""
    page.get_by_label("Sampler").select_option("heun")
    drawn = ask_for(page, prompt, Steps=100)
    expect(state(drawn)).to_have_text(re.compile(r"Step \d\d of 100"))
    with site.api.held():
        yield
    drawn.get_by_role("button", name="Cancel").click()
    expect(state(drawn)).to_have_text("Canceled")


def open_groups(page: Page) -> None:
    """Open every group of fields."""
    closed = page.locator("details:not([open]) > summary")
    while closed.count():
        closed.first.click()


def scrolls_sideways(page: Page) -> bool:
    """True where something is wider than the window."""
    wide: bool = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return wide


def check_access(page: Page) -> None:
    """Hold what is shown to axe-core's rules."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_state_is_accessible(visitor: Visitor, site: LiveServer, dark: bool) -> None:
    page = visitor.open(site.url, dark=dark)
    expect(tiles(page).nth(5)).to_be_visible()
    page.get_by_role("checkbox", name="Monochrome").check()
    open_groups(page)
    check_access(page)
    field(page, "Steps").fill("0")
    page.get_by_role("button", name="Generate").click()
    expect(fault_of(page, "Steps")).to_be_visible()
    check_access(page)
    with in_the_middle(page, site, "a red heart"):
        check_access(page)
    tiles(page).first.click()
    expect(page.get_by_role("dialog").get_by_text("Schedule")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    check_access(page)


def test_the_dark_is_dark_and_the_light_is_light(visitor: Visitor, site: LiveServer) -> None:
    def brightness(dark: bool) -> list[int]:
        page = visitor.open(site.url, dark=dark)
        colours = page.evaluate(
            "['body', 'form textarea', 'body > header'].map("
            "name => getComputedStyle(document.querySelector(name)).backgroundColor)"
        )
        return [max(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours]

    assert all(each > 230 for each in brightness(dark=False))
    assert all(each < 50 for each in brightness(dark=True))


def test_a_narrow_window_never_scrolls_sideways(visitor: Visitor, site: LiveServer) -> None:
    page = visitor.open(site.url, width=NARROW, height=740)
    expect(tiles(page).first).to_be_visible()
    assert not scrolls_sideways(page)
    open_groups(page)
    page.get_by_role("checkbox", name="Monochrome").check()
    assert not scrolls_sideways(page)
    with in_the_middle(page, site, "a-very-long-word-" * 20):
        expect(page.locator("#stage .card")).to_be_in_viewport()
        assert not scrolls_sideways(page)
    tiles(page).first.click()
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_text("Schedule")).to_be_visible()
    assert not scrolls_sideways(page)
    assert viewer.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


def test_all_that_is_sent_is_small_and_nothing_waits_for_another(
    visitor: Visitor, site: LiveServer
) -> None:
    page = visitor.open(site.url)
    sent = page.evaluate(
        "performance.getEntries().filter(entry => entry.transferSize !== undefined)"
        ".filter(entry => !entry.name.includes('/api/'))"
        ".map(entry => [entry.name, entry.transferSize])"
    )
    assert len(sent) > 10
    assert sum(size for _, size in sent) < 100_000


def test_motion_is_left_out_for_whoever_wants_none(visitor: Visitor, site: LiveServer) -> None:
    page = visitor.open(site.url)
    page.emulate_media(reduced_motion="reduce")
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter("
        "each => parseFloat(getComputedStyle(each).transitionDuration) > 0).length"
    )
    assert moving == 0


def test_the_picture_of_the_readme(visitor: Visitor, site: LiveServer, tmp_path: Path) -> None:
    page = visitor.open(site.url, width=1280, height=800)
    expect(tiles(page).first).to_be_visible()
    with in_the_middle(page, site, "a red apple on a blue background"):
        page.get_by_label("Prompt", exact=True).blur()
        folder = Path(SCREENSHOTS or tmp_path)
        page.screenshot(path=folder / "page.png")
    with Image.open(folder / "page.png") as picture:
        assert picture.size == (1280, 800)
        assert len(picture.convert("RGB").getcolors(2**24) or ()) > 5000, "pictures are in it"

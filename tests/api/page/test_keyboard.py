"""The page by keyboard alone: every act, with the focus seen and where it is looked for."""

from playwright.sync_api import Locator, Page, expect

from tests.api.live import LiveServer
from tests.api.page.acts import card, expect_finished, field, state, tiles

OUTLINE = "getComputedStyle(document.activeElement).outlineStyle"
MOST_STOPS = 80


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until this has the focus; every stop on the way shows that it has it."""
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement !== document.body"):
            assert page.evaluate(OUTLINE) != "none", page.evaluate(
                "document.activeElement.outerHTML"
            )
        if wanted.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError("Tab does not lead there")


def test_a_picture_is_asked_for_opened_and_closed(page: Page) -> None:
    prompt = field(page, "Prompt")
    tab_to(page, prompt)
    page.keyboard.type("a red apple")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("on a white background")
    expect(prompt).to_have_value("a red apple\non a white background")
    tab_to(page, page.get_by_label("Steps, slider"))
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(field(page, "Steps")).to_have_value("4")
    page.keyboard.press("Enter")
    expect_finished(card(page, "a red apple"))
    expect(card(page, "a red apple")).to_contain_text("4 steps")

    prompt.focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("a red cross")
    page.keyboard.press("Control+Enter")
    expect_finished(card(page, "a red cross"))
    expect(page.locator("#stage .card")).to_have_count(1)

    tab_to(page, card(page, "a red cross").get_by_role("button", name="Open").last)
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog")
    expect(viewer.get_by_text("a red cross")).to_be_visible()
    assert page.evaluate("document.querySelector('#viewer').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(card(page, "a red cross").get_by_role("button", name="Open").last).to_be_focused()


def test_the_gallery_is_walked_by_arrows_and_left_where_one_is(
    page: Page, site: LiveServer
) -> None:
    for thing in ("bus", "car", "key"):
        site.api.finish(site.api.submit(prompt=f"a {thing}", steps=1))
    expect(tiles(page).nth(2)).to_be_visible()
    tab_to(page, tiles(page).first)
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog")
    for key, thing in (("Right", "car"), ("Right", "bus"), ("Left", "car")):
        page.keyboard.press(f"Arrow{key}")
        expect(viewer.get_by_text(f"a {thing}", exact=True)).to_be_visible()
    tab_to(page, viewer.get_by_role("button", name="Close"))
    page.keyboard.press("Enter")
    expect(viewer).to_be_hidden()
    expect(tiles(page).nth(1)).to_be_focused()


def test_what_is_canceled_gives_the_focus_back(page: Page, site: LiveServer) -> None:
    with site.api.held():
        site.api.submit()
        tab_to(page, field(page, "Prompt"))
        page.keyboard.type("a panda")
        page.keyboard.press("Enter")
        waiting = card(page, "a panda")
        tab_to(page, waiting.get_by_role("button", name="Cancel"))
        page.keyboard.press("Enter")
        expect(state(waiting)).to_have_text("Canceled")
        expect(field(page, "Prompt")).to_be_focused()
    site.api.cancel_all()

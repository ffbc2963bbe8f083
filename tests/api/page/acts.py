"""Things that a person does on the page, and where they are seen."""

from playwright.sync_api import Locator, Page, expect


def ask_for(page: Page, prompt: str, **settings: object) -> Locator:
    """Type a prompt, set fields by their labels, and send; the card of the job that it became."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    for label, value in settings.items():
        page.get_by_label(label.replace("_", " "), exact=True).fill(str(value))
    page.get_by_role("button", name="Generate").click()
    return card(page, prompt)


def card(page: Page, prompt: str) -> Locator:
    """The card of the newest job with this prompt."""
    return page.locator("#stage .card").filter(has_text=prompt).last


def state(found: Locator) -> Locator:
    """The line of a card that says how its job stands."""
    return found.locator(".state")


def tiles(page: Page) -> Locator:
    """The pictures in the gallery, newest first."""
    return page.locator("#gallery button")


def expect_finished(found: Locator) -> None:
    """Wait until the card shows its finished picture, loaded."""
    expect(state(found)).to_contain_text("Finished")
    expect(found.locator("img")).to_have_attribute("src", "api/images/" + _name(found))


def _name(found: Locator) -> str:
    address = found.locator("img").get_attribute("src") or ""
    return address.rpartition("/")[2]

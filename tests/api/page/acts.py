"""Things that a person does on the page, and where they are seen."""

from playwright.sync_api import Locator, Page, expect


def ask_for(page: Page, prompt: str, **settings: object) -> Locator:
    """Type a prompt, set fields by their labels, and send; the card of the job that it became."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    for label, value in settings.items():
        field(page, label.replace("_", " ")).fill(str(value))
    page.get_by_role("button", name="Generate").click()
    return card(page, prompt)


def field(page: Page, label: str) -> Locator:
    """The input with this label, and not the slider beside it."""
    return page.get_by_label(label, exact=True)


def card(page: Page, prompt: str) -> Locator:
    """The card of the newest job with this prompt."""
    return page.locator("#stage .card").filter(has_text=prompt).last


def state(found: Locator) -> Locator:
    """The line of a card that says how its job stands."""
    return found.locator(".state")


def tiles(page: Page) -> Locator:
    """The pictures in the gallery, newest first."""
    return page.locator("#gallery button")


def fault_of(page: Page, label: str) -> Locator:
    """The line beside the field with this label that says what is wrong with it."""
    return page.locator(".field").filter(has=field(page, label)).locator(".fault")


def expect_finished(found: Locator) -> None:
    """Wait until the card shows its finished picture, loaded."""
    expect(state(found)).to_have_text("Finished")
    expect(found.locator("img[src^='api/images/']")).to_be_visible()

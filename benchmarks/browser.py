"""The browser that this machine has, as Playwright drives it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    """The path of a Chromium; None where none is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browsing(program: str) -> Iterator[Browser]:
    """That Chromium, running without a window, and closed at the end."""
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not run as root, which containers do.
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()

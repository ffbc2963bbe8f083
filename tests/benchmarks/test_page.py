"""The benchmark of the page, on the demo."""

from pathlib import Path

import pytest

from benchmarks.browser import find_browser
from benchmarks.page import UNITS
from tests.benchmarks.running import run


@pytest.mark.skipif(find_browser() is None, reason="no browser is installed")
def test_a_visit_is_timed_and_weighed(tmp_path: Path) -> None:
    figures = run("page", tmp_path / "page.json", "--turns", "2", "--warm", "0")["figures"]
    assert {name: figure["unit"] for name, figure in figures.items()} == UNITS
    assert figures["whole"]["smallest"] >= figures["first paint"]["smallest"] > 0
    assert figures["all"]["smallest"] > figures["page"]["smallest"] > 10_000

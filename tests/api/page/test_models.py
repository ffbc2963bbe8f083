"""The page fits itself to a model of another family, which takes less."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.api.live import LiveServer, Options
from tests.api.page.acts import ask_for, expect_finished, field
from tests.api.page.conftest import Visitor


@pytest.fixture(scope="module")
def schnell(
    tiny_schnell_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    data = tmp_path_factory.mktemp("schnell")
    with LiveServer(Options(tiny_schnell_package, data, model="tiny_schnell")) as running:
        yield running


def test_fields_that_the_model_does_not_take_are_not_there(
    visitor: Visitor, schnell: LiveServer
) -> None:
    info = schnell.api.client.get("/api/info").json()
    rules = info["parameters"]["properties"]
    page = visitor.open(schnell.url)
    for absent in ("Negative prompt", "Guidance", "CLIP skip", "Sampler"):
        expect(field(page, absent)).to_have_count(0)
    for group in ("LoRAs", "What this model can draw"):
        expect(page.get_by_text(group)).to_have_count(0)
    for name in ("width", "height", "steps"):
        box = field(page, name.capitalize())
        expect(box).to_have_value(str(rules[name]["default"]))
        expect(box).to_have_attribute("max", str(rules[name]["maximum"]))
    expect_finished(ask_for(page, "anything at all", Width=64, Height=64, Steps=1))

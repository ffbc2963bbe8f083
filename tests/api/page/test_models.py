"""The page fits itself to models: one of another family, which takes less, and one of several."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.api.live import LiveServer, Options
from tests.api.page.acts import ask_for, expect_finished, field, tiles
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


@pytest.fixture(scope="module")
def two_models(
    tiny_package: Path, tiny_schnell_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    assert tiny_package == tiny_schnell_package
    data = tmp_path_factory.mktemp("two")
    with LiveServer(Options(tiny_package, data, model="tiny,tiny_schnell")) as running:
        yield running


def test_a_model_is_chosen_and_a_pictures_own_is_used_again(
    visitor: Visitor, two_models: LiveServer
) -> None:
    page = visitor.open(two_models.url)
    models = page.get_by_label("Model", exact=True)
    expect(models).to_have_value("tiny")
    field(page, "Negative prompt").fill("typed for tiny")
    models.select_option("tiny_schnell")
    expect(field(page, "Negative prompt")).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_text("Not taken here, and left out: Negative prompt.")
    page.reload()
    expect(models).to_have_value("tiny_schnell")
    expect_finished(ask_for(page, "a castle", Width=64, Height=64, Steps=1))
    models.select_option("tiny")
    expect(field(page, "Negative prompt")).to_have_value("typed for tiny")
    expect_finished(ask_for(page, "a tower", Width=64, Height=64, Steps=1))
    drawn = two_models.api.client.get("/api/images").json()["images"]
    assert [image["model"] for image in drawn] == ["tiny", "tiny_schnell"]
    tiles(page).nth(1).click()
    page.get_by_role("button", name="Use these settings").click()
    expect(models).to_have_value("tiny_schnell")
    expect(field(page, "Prompt")).to_have_value("a castle")


def test_a_model_that_is_served_no_more_gives_way_to_the_first(
    visitor: Visitor, site: LiveServer
) -> None:
    visitor.expects("status of 404")
    page = visitor.open(site.url)
    page.evaluate("sessionStorage.setItem('calotype.model', 'gone')")
    page.reload()
    expect_finished(ask_for(page, "a lemon", Steps=1))

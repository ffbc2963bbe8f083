"""Scoring recognises scenes that are right, and says what is wrong in those that are not."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from examples.demo_model.compose import draw_shape
from examples.demo_model.scenes import Scene, Thing
from examples.demo_model.scoring import (
    TEMPLATE_COLUMNS,
    TEMPLATE_SHEET,
    TEMPLATE_SIZE,
    judge,
    summarise,
)
from examples.demo_model.vocabulary import COLOURS, OBJECTS


def picture(
    background: str, *sprites: tuple[Image.Image, int, tuple[int, int]]
) -> NDArray[np.uint8]:
    """A 128x128 picture of sprites of given sizes, centred at given points."""
    canvas = Image.new("RGB", (128, 128), COLOURS[background])
    for sprite, size, (x, y) in sprites:
        small = sprite.resize((size, size), Image.Resampling.LANCZOS)
        canvas.paste(small, (x - size // 2, y - size // 2), small)
    return np.asarray(canvas)


def emoji(name: str) -> Image.Image:
    row, column = divmod(list(OBJECTS).index(name), TEMPLATE_COLUMNS)
    left, top = column * TEMPLATE_SIZE, row * TEMPLATE_SIZE
    with Image.open(TEMPLATE_SHEET) as sheet:
        whole = sheet.convert("RGBA")
    return whole.crop((left, top, left + TEMPLATE_SIZE, top + TEMPLATE_SIZE))


@pytest.mark.parametrize("name", list(OBJECTS))
def test_every_object_is_recognised(name: str) -> None:
    drawn = picture("cyan", (emoji(name), 88, (64, 64)))
    assert judge(drawn, Scene((Thing(name),), "cyan")).things
    other = "rocket" if name != "rocket" else "cat"
    assert not judge(drawn, Scene((Thing(other),), "cyan")).things


def test_a_wrong_background_is_seen() -> None:
    drawn = picture("green", (emoji("cat"), 88, (64, 64)))
    assert judge(drawn, Scene((Thing("cat"),), "green")).background
    assert not judge(drawn, Scene((Thing("cat"),), "blue")).background


def test_colours_must_belong_to_what_they_describe() -> None:
    asked = Scene((Thing("star", "red"),), "blue")
    right = picture("blue", (draw_shape("star", COLOURS["red"]), 88, (64, 64)))
    swapped = picture("red", (draw_shape("star", COLOURS["blue"]), 88, (64, 64)))
    assert judge(right, asked).binding
    assert not judge(swapped, asked).binding


def test_left_and_right_are_told_apart() -> None:
    asked = Scene((Thing("cat"), Thing("house")), "white")
    right = picture("white", (emoji("cat"), 58, (34, 64)), (emoji("house"), 58, (94, 64)))
    verdict = judge(right, asked)
    assert verdict.order
    assert verdict.things
    mirrored = picture("white", (emoji("house"), 58, (34, 64)), (emoji("cat"), 58, (94, 64)))
    verdict = judge(mirrored, asked)
    assert not verdict.order
    assert verdict.things


@pytest.mark.parametrize(
    ("place", "centre"),
    [
        ("on the left", (36, 64)),
        ("on the right", (92, 64)),
        ("at the top", (64, 36)),
        ("at the bottom", (64, 92)),
    ],
)
def test_places_are_seen(place: str, centre: tuple[int, int]) -> None:
    asked = Scene((Thing("robot", place=place),), "pink")
    assert judge(picture("pink", (emoji("robot"), 62, centre)), asked).place
    assert not judge(picture("pink", (emoji("robot"), 62, (64, 64))), asked).place


@pytest.mark.parametrize(("size", "pixels"), [("small", 46), ("big", 118)])
def test_sizes_are_seen(size: str, pixels: int) -> None:
    asked = Scene((Thing("key", size=size),), "gray")
    assert judge(picture("gray", (emoji("key"), pixels, (64, 64))), asked).size
    assert not judge(picture("gray", (emoji("key"), 88, (64, 64))), asked).size


def test_an_empty_picture_shows_nothing() -> None:
    verdict = judge(picture("yellow"), Scene((Thing("dog"),), "yellow"))
    assert verdict.background
    assert not verdict.things


def test_one_thing_of_two_is_not_enough() -> None:
    drawn = picture("white", (emoji("cat"), 58, (34, 64)))
    verdict = judge(drawn, Scene((Thing("cat"), Thing("house")), "white"))
    assert not verdict.things
    assert not verdict.order


def test_summaries_count_only_what_was_asked_for() -> None:
    drawn = picture("green", (emoji("cat"), 88, (64, 64)))
    verdicts = [judge(drawn, Scene((Thing(name),), "green")) for name in ("cat", "dog")]
    table = summarise(verdicts)
    assert table["things"] == {"right": 0.5, "of": 2.0}
    assert "place" not in table

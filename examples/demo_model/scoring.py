"""Says whether a picture shows the scene it was asked for. Needs NumPy and Pillow alone.

Things are recognised by comparison with a small committed sheet of sprites, drawn on the
background that the picture has, so that a score needs neither the npm package nor a network.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from examples.demo_model.compose import draw_shape, recolour
from examples.demo_model.scenes import Scene, Thing
from examples.demo_model.vocabulary import COLOURS, OBJECTS, RECOLOURABLE, SHAPES

TEMPLATE_SHEET = Path(__file__).parent / "templates.webp"
TEMPLATE_SIZE = 64
TEMPLATE_COLUMNS = 10

_BORDER = 4
_CANVAS = 84
_FEATURE_SIZE = 20
_VISIBLE = 45.0
_LEAST_PIXELS = 40
# Sprite sizes in pixels: small things are drawn at 46, usual ones at 86 to 90, big ones at 118.
_SMALL, _BIG = 66, 104

Picture = NDArray[np.uint8]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Verdict:
    """Marks of one picture: each is None when the prompt did not ask for the property."""

    background: bool
    things: bool
    colours: bool | None = None
    binding: bool | None = None
    order: bool | None = None
    place: bool | None = None
    size: bool | None = None


def judge(picture: Picture, scene: Scene) -> Verdict:
    """Compares an RGB picture `[128, 128, 3]` with the scene its prompt described."""
    colour = background_colour(picture)
    parts = _parts(picture, len(scene.things))
    pairs = list(zip(parts, scene.things, strict=True))
    background = nearest_colour(colour) == scene.background
    seen = [recognise(part, colour, thing.colour) for part, thing in pairs]
    names = [thing.name for thing in scene.things]
    coloured = [(part, thing) for part, thing in pairs if thing.colour is not None]
    colours = all(_colour_of(part, colour, thing) == thing.colour for part, thing in coloured)
    only = scene.things[0] if len(scene.things) == 1 else None
    return Verdict(
        background=background,
        things=Counter(seen) == Counter(names),
        colours=colours if coloured else None,
        binding=(colours and background and seen == names) if coloured else None,
        order=seen == names if only is None else None,
        place=_place(picture, colour) == only.place if only and only.place else None,
        size=_size(picture, colour, only) == only.size if only and only.size else None,
    )


def summarise(verdicts: Sequence[Verdict]) -> dict[str, dict[str, float]]:
    """Share right and number asked for, for each thing judged."""
    table = {}
    for field in fields(Verdict):
        asked = [value for v in verdicts if (value := getattr(v, field.name)) is not None]
        if asked:
            table[field.name] = {"right": sum(asked) / len(asked), "of": float(len(asked))}
    return table


def background_colour(picture: Picture) -> FloatArray:
    """The median RGB of the picture's border."""
    inner = np.zeros(picture.shape[:2], bool)
    inner[_BORDER:-_BORDER, _BORDER:-_BORDER] = True
    return np.asarray(np.median(picture[~inner], axis=0), dtype=np.float32)


def nearest_colour(rgb: FloatArray) -> str:
    """The name of the vocabulary's colour that is closest in RGB."""
    return min(COLOURS, key=lambda name: float(np.abs(np.array(COLOURS[name]) - rgb).sum()))


def recognise(part: Picture, background: FloatArray, colour: str | None) -> str | None:
    """The thing that a part of a picture looks most like, or None for a bare background.

    With a colour, everything that can have it is compared in that colour as well; the name of
    the thing is all that is asked of the comparison.
    """
    feature = _feature(part, background)
    if feature is None:
        return None
    candidates = [Thing(name) for name in OBJECTS]
    if colour is not None:
        candidates = [Thing(name, colour) for name in (*RECOLOURABLE, *SHAPES)]
    return _closest(feature, background, candidates).name


def _colour_of(part: Picture, background: FloatArray, thing: Thing) -> str | None:
    feature = _feature(part, background)
    if feature is None:
        return None
    return _closest(feature, background, [Thing(thing.name, name) for name in COLOURS]).colour


def _closest(feature: FloatArray, background: FloatArray, candidates: list[Thing]) -> Thing:
    name = nearest_colour(background)
    distances = []
    for candidate in candidates:
        template = _template_feature(candidate.name, candidate.colour, name)
        far = np.inf if template is None else float(np.abs(template - feature).mean())
        distances.append(far)
    return candidates[int(np.argmin(distances))]


def _feature(part: Picture, background: FloatArray) -> FloatArray | None:
    """The foreground, cut out and brought to one size: `[20, 20, 4]`."""
    visible = _visible(part, background)
    if visible is None:
        return None
    top, bottom, left, right = _box(visible)
    height, width = bottom - top, right - left
    side = max(height, width)
    y, x = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 4), np.uint8)
    inside = square[y : y + height, x : x + width]
    inside[..., :3] = part[top:bottom, left:right]
    inside[..., 3] = 255
    inside *= visible[top:bottom, left:right, None]
    size = (_FEATURE_SIZE, _FEATURE_SIZE)
    small = Image.fromarray(square, "RGBa").resize(size, Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def _box(visible: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of all but a few stray pixels."""
    rows, columns = np.where(visible)
    top, bottom = np.percentile(rows, (1, 99)).astype(int)
    left, right = np.percentile(columns, (1, 99)).astype(int)
    return int(top), int(bottom) + 1, int(left), int(right) + 1


def _parts(picture: Picture, count: int) -> list[Picture]:
    middle = picture.shape[1] // 2
    return [picture] if count == 1 else [picture[:, :middle], picture[:, middle:]]


def _place(picture: Picture, background: FloatArray) -> str | None:
    visible = _visible(picture, background)
    if visible is None:
        return None
    top, bottom, left, right = _box(visible)
    across = (left + right) / 2 - picture.shape[1] / 2
    down = (top + bottom) / 2 - picture.shape[0] / 2
    if max(abs(across), abs(down)) < picture.shape[0] / 10:
        return None
    if abs(across) > abs(down):
        return "on the left" if across < 0 else "on the right"
    return "at the top" if down < 0 else "at the bottom"


def _size(picture: Picture, background: FloatArray, thing: Thing) -> str | None:
    """Compares the thing's extent with that of its sprite, since some sprites are narrow."""
    shown = _extent(picture, background)
    paper = nearest_colour(background)
    usual = _extent(_template(thing.name, thing.colour, paper), np.array(COLOURS[paper]))
    if shown is None or usual is None:
        return None
    pixels = shown / usual * TEMPLATE_SIZE
    if pixels < _SMALL:
        return "small"
    return "big" if pixels > _BIG else None


def _extent(picture: Picture, background: FloatArray) -> int | None:
    visible = _visible(picture, background)
    if visible is None:
        return None
    top, bottom, left, right = _box(visible)
    return max(bottom - top, right - left)


def _visible(picture: Picture, background: FloatArray) -> NDArray[np.bool_] | None:
    """Which pixels differ from the background, or None when hardly any does."""
    visible = np.abs(picture.astype(np.float32) - background).sum(-1) > _VISIBLE
    return visible if int(visible.sum()) >= _LEAST_PIXELS else None


@cache
def _template_feature(name: str, colour: str | None, background: str) -> FloatArray | None:
    paper = np.array(COLOURS[background], np.float32)
    return _feature(_template(name, colour, background), paper)


def _template(name: str, colour: str | None, background: str) -> Picture:
    canvas = Image.new("RGB", (_CANVAS, _CANVAS), COLOURS[background])
    sprite = _sprite(name, colour)
    canvas.paste(sprite, ((_CANVAS - TEMPLATE_SIZE) // 2,) * 2, sprite)
    return np.asarray(canvas)


@cache
def _sprite(name: str, colour: str | None) -> Image.Image:
    size = (TEMPLATE_SIZE, TEMPLATE_SIZE)
    if name in SHAPES:
        if colour is None:
            raise ValueError(f"shape {name!r} needs a colour")
        return draw_shape(name, COLOURS[colour]).resize(size, Image.Resampling.LANCZOS)
    row, column = divmod(list(OBJECTS).index(name), TEMPLATE_COLUMNS)
    corner = column * TEMPLATE_SIZE, row * TEMPLATE_SIZE
    sprite = _sheet().crop((*corner, corner[0] + TEMPLATE_SIZE, corner[1] + TEMPLATE_SIZE))
    return sprite if colour is None else recolour(sprite, COLOURS[colour])


@cache
def _sheet() -> Image.Image:
    with Image.open(TEMPLATE_SHEET) as sheet:
        return sheet.convert("RGBA")

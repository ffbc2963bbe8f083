"""Draws scenes: sprites with alpha, recoloured on demand, and plain shapes."""

import math
import random
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from examples.demo_model.scenes import Scene, Thing
from examples.demo_model.vocabulary import COLOURS, OBJECTS

PICTURE_SIZE = 128

FloatArray = NDArray[np.float32]


class Composer:
    """Draws scenes from a folder of emoji pictures, with a little seeded jitter."""

    def __init__(self, assets: Path) -> None:
        self._assets = assets
        self._sprite = lru_cache(maxsize=None)(self._load_sprite)

    def draw(self, scene: Scene, random_source: random.Random) -> NDArray[np.uint8]:
        """The scene as an 8-bit RGB picture `[128, 128, 3]`."""
        shade = np.array(COLOURS[scene.background]) + random_source.uniform(-5, 5)
        canvas = np.empty((PICTURE_SIZE, PICTURE_SIZE, 3), np.float32)
        canvas[:] = np.clip(shade / 255, 0, 1)
        for index, thing in enumerate(scene.things):
            size, x, y = _layout(scene, index, random_source)
            _paste(canvas, self.sprite(thing, size), x, y)
        return np.asarray(np.round(np.clip(canvas, 0, 1) * 255), dtype=np.uint8)

    def sprite(self, thing: Thing, size: int) -> FloatArray:
        """The thing as premultiplied RGBA `[size, size, 4]` in 0..1."""
        return self._sprite(thing.name, thing.colour, size)

    def _load_sprite(self, name: str, colour: str | None, size: int) -> FloatArray:
        if name in OBJECTS:
            picture = Image.open(self._assets / f"{OBJECTS[name]}.webp").convert("RGBA")
            if colour is not None:
                picture = recolour(picture, COLOURS[colour])
        else:
            if colour is None:
                raise ValueError(f"shape {name!r} needs a colour")
            picture = draw_shape(name, COLOURS[colour])
        small = picture.convert("RGBa").resize((size, size), Image.Resampling.LANCZOS)
        return np.asarray(small, dtype=np.float32) / np.float32(255)


def recolour(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Gives the saturated part of an RGBA picture another colour and keeps its shading.

    White, gray and black details (eyes, tyres, highlights) keep their own colour.
    """
    pixels = np.asarray(picture, dtype=np.float32) / 255
    rgb, alpha = pixels[..., :3], pixels[..., 3:]
    brightest = rgb.max(-1)
    saturation = (brightest - rgb.min(-1)) / np.maximum(brightest, 1e-3)
    weight = np.clip((saturation - 0.12) / 0.2, 0, 1)[..., None]
    luminance = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    coloured = (weight[..., 0] * alpha[..., 0]) > 0.5
    reference = float(np.median(luminance[coloured]))
    ratio = (luminance / reference)[..., None]
    target = np.array(colour, np.float32) / 255
    dark = target * np.clip(ratio, 0.25, 1)
    light = (1 - target) * 0.5 * np.clip((ratio - 1) / max(1 / reference - 1, 0.25), 0, 1)
    mixed = weight * (dark + light) + (1 - weight) * rgb
    result = np.concatenate([np.clip(mixed, 0, 1), alpha], -1)
    return Image.fromarray(np.asarray(np.round(result * 255), dtype=np.uint8))


def draw_shape(name: str, colour: tuple[int, int, int]) -> Image.Image:
    """A plain shape as RGBA, 256x256, antialiased by drawing it four times as large."""
    side = 1024
    mask = Image.new("L", (side, side))
    drawing = ImageDraw.Draw(mask)
    if name == "circle":
        drawing.ellipse((72, 72, 952, 952), fill=255)
    elif name == "ring":
        drawing.ellipse((72, 72, 952, 952), fill=255)
        drawing.ellipse((302, 302, 722, 722), fill=0)
    else:
        outline = [(x * side, y * side) for x, y in _outline(name)]
        drawing.polygon(outline, fill=255)
    shape = Image.new("RGBA", (256, 256), (*colour, 0))
    shape.putalpha(mask.resize((256, 256), Image.Resampling.LANCZOS))
    return shape


def _outline(name: str) -> list[tuple[float, float]]:
    """Corner points in the unit square."""
    fixed: dict[str, list[tuple[float, float]]] = {
        "square": [(0.13, 0.13), (0.87, 0.13), (0.87, 0.87), (0.13, 0.87)],
        "triangle": [(0.5, 0.09), (0.95, 0.87), (0.05, 0.87)],
        "diamond": [(0.5, 0.03), (0.86, 0.5), (0.5, 0.97), (0.14, 0.5)],
        "arrow": [
            (0.05, 0.36), (0.52, 0.36), (0.52, 0.12), (0.95, 0.5),
            (0.52, 0.88), (0.52, 0.64), (0.05, 0.64),
        ],
        "cross": [
            (0.35, 0.07), (0.65, 0.07), (0.65, 0.35), (0.93, 0.35), (0.93, 0.65), (0.65, 0.65),
            (0.65, 0.93), (0.35, 0.93), (0.35, 0.65), (0.07, 0.65), (0.07, 0.35), (0.35, 0.35),
        ],
    }  # fmt: skip
    if name in fixed:
        return fixed[name]
    if name == "hexagon":
        return [_on_circle(k / 6, 0.46) for k in range(6)]
    if name == "star":
        return [_on_circle(k / 10 - 0.25, 0.49 if k % 2 == 0 else 0.21) for k in range(10)]
    if name == "heart":
        return [_on_heart(k / 200) for k in range(200)]
    raise ValueError(f"unknown shape {name!r}")


def _on_circle(turn: float, radius: float) -> tuple[float, float]:
    return (
        0.5 + radius * math.cos(2 * math.pi * turn),
        0.5 + radius * math.sin(2 * math.pi * turn),
    )


def _on_heart(turn: float) -> tuple[float, float]:
    """The usual parametric heart curve, scaled to the unit square."""
    t = 2 * math.pi * turn
    x = 16 * math.sin(t) ** 3
    y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return 0.5 + x / 36, 0.46 - y / 36


def _layout(scene: Scene, index: int, random_source: random.Random) -> tuple[int, int, int]:
    """Sprite size and centre of one thing, in pixels."""
    thing = scene.things[index]
    sizes: tuple[int, ...]
    jitter = random_source.randint(-2, 2), random_source.randint(-2, 2)
    if len(scene.things) == 2:
        centre, sizes = ((34, 64), (94, 64))[index], (58,)
    elif thing.size == "small":
        centre, sizes = (64, 64), (46,)
    elif thing.size == "big":
        centre, sizes = (64, 64), (118,)
    elif thing.place is not None:
        sizes = (62,)
        centre = {
            "on the left": (36, 64),
            "on the right": (92, 64),
            "at the top": (64, 36),
            "at the bottom": (64, 92),
        }[thing.place]
    else:
        centre, sizes = (64, 64), (86, 90)
    return random_source.choice(sizes), centre[0] + jitter[0], centre[1] + jitter[1]


def _paste(canvas: FloatArray, sprite: FloatArray, centre_x: int, centre_y: int) -> None:
    """Composites a premultiplied sprite onto the canvas, cut off at its edges."""
    size, side = sprite.shape[0], canvas.shape[0]
    left, top = centre_x - size // 2, centre_y - size // 2
    x0, y0, x1, y1 = max(0, left), max(0, top), min(side, left + size), min(side, top + size)
    part = sprite[y0 - top : y1 - top, x0 - left : x1 - left]
    canvas[y0:y1, x0:x1] = part[..., :3] + canvas[y0:y1, x0:x1] * (1 - part[..., 3:])

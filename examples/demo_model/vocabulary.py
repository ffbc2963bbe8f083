"""The demo model's vocabulary: objects, shapes, colours, and the combinations held out."""

import random
from functools import cache

# The file name of each object's picture in @lobehub/fluent-emoji-3d, without its suffix.
OBJECTS: dict[str, str] = {
    "apple": "1f34e",
    "banana": "1f34c",
    "lemon": "1f34b",
    "strawberry": "1f353",
    "watermelon": "1f349",
    "pineapple": "1f34d",
    "carrot": "1f955",
    "broccoli": "1f966",
    "mushroom": "1f344",
    "pizza": "1f355",
    "hamburger": "1f354",
    "doughnut": "1f369",
    "cupcake": "1f9c1",
    "cat": "1f431",
    "dog": "1f436",
    "fox": "1f98a",
    "bear": "1f43b",
    "panda": "1f43c",
    "rabbit": "1f430",
    "lion": "1f981",
    "pig": "1f437",
    "monkey": "1f435",
    "frog": "1f438",
    "penguin": "1f427",
    "chick": "1f425",
    "bird": "1f426",
    "owl": "1f989",
    "fish": "1f420",
    "whale": "1f433",
    "octopus": "1f419",
    "crab": "1f980",
    "turtle": "1f422",
    "butterfly": "1f98b",
    "bee": "1f41d",
    "dinosaur": "1f995",
    "unicorn": "1f984",
    "elephant": "1f418",
    "tree": "1f332",
    "palm tree": "1f334",
    "cactus": "1f335",
    "sunflower": "1f33b",
    "tulip": "1f337",
    "car": "1f697",
    "bus": "1f68c",
    "rocket": "1f680",
    "sailboat": "26f5",
    "house": "1f3e0",
    "robot": "1f916",
    "balloon": "1f388",
    "football": "26bd",
    "guitar": "1f3b8",
    "umbrella": "2602-fe0f",
    "crown": "1f451",
    "key": "1f511",
    "book": "1f4d5",
    "bell": "1f514",
    "hat": "1f3a9",
    "shirt": "1f455",
    "snowman": "26c4",
    "pumpkin": "1f383",
}

# Objects with one dominant colour, which "a blue apple" may change.
RECOLOURABLE: tuple[str, ...] = (
    "apple",
    "banana",
    "lemon",
    "strawberry",
    "mushroom",
    "cat",
    "bear",
    "pig",
    "frog",
    "chick",
    "bird",
    "whale",
    "octopus",
    "crab",
    "turtle",
    "butterfly",
    "dinosaur",
    "cactus",
    "tulip",
    "car",
    "bus",
    "balloon",
    "guitar",
    "umbrella",
    "crown",
    "key",
    "book",
    "bell",
    "hat",
    "shirt",
    "pumpkin",
)

SHAPES: tuple[str, ...] = (
    "circle",
    "square",
    "triangle",
    "heart",
    "star",
    "diamond",
    "hexagon",
    "cross",
    "ring",
    "arrow",
)

# A shape whose caption names no colour is drawn in this one, if it has a usual colour.
USUAL_SHAPE_COLOURS: dict[str, str] = {"heart": "red", "star": "yellow"}

# 8-bit RGB.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 45),
    "orange": (245, 140, 40),
    "yellow": (250, 215, 70),
    "green": (60, 165, 75),
    "blue": (45, 95, 215),
    "purple": (130, 70, 180),
    "pink": (250, 160, 195),
    "brown": (120, 78, 48),
    "black": (22, 22, 26),
    "white": (245, 245, 245),
    "gray": (140, 140, 145),
    "cyan": (85, 205, 220),
}

# A caption that names no background gets this one.
USUAL_BACKGROUND = "white"

_HELD_OUT_SEED = 2026
_HELD_OUT_SHARE = 0.12


@cache
def held_out_colours() -> frozenset[tuple[str, str]]:
    """The (colour, thing) pairs that training never shows, for shapes and recoloured objects."""
    pairs = [(colour, name) for name in (*RECOLOURABLE, *SHAPES) for colour in COLOURS]
    usual = {(colour, name) for name, colour in USUAL_SHAPE_COLOURS.items()}
    return _draw([pair for pair in pairs if pair not in usual], _HELD_OUT_SEED)


@cache
def held_out_backgrounds() -> frozenset[tuple[str, str]]:
    """The (thing, background) pairs that training never shows, for all objects and shapes."""
    pairs = [
        (name, colour)
        for name in (*OBJECTS, *SHAPES)
        for colour in COLOURS
        if colour != USUAL_BACKGROUND
    ]
    return _draw(pairs, _HELD_OUT_SEED + 1)


def _draw(pairs: list[tuple[str, str]], seed: int) -> frozenset[tuple[str, str]]:
    return frozenset(random.Random(seed).sample(pairs, int(len(pairs) * _HELD_OUT_SHARE)))


if __name__ == "__main__":
    print(", ".join((*OBJECTS, *SHAPES)))

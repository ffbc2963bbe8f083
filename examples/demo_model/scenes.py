"""Scenes as data, their captions, and the seeded sampling of both."""

import random
from dataclasses import dataclass

from examples.demo_model.vocabulary import (
    COLOURS,
    OBJECTS,
    RECOLOURABLE,
    SHAPES,
    USUAL_BACKGROUND,
    USUAL_SHAPE_COLOURS,
    held_out_backgrounds,
    held_out_colours,
)

SIZES = ("small", "big")
PLACES = ("on the left", "on the right", "at the top", "at the bottom")


def with_article(words: str) -> str:
    """For instance "an orange square"; "unicorn" begins with a consonant's sound."""
    vowel = words[0] in "aeiou" and not words.startswith("uni")
    return f"an {words}" if vowel else f"a {words}"


@dataclass(frozen=True)
class Thing:
    """One object or shape. `colour` is None for an object in its natural colours."""

    name: str
    colour: str | None = None
    size: str | None = None
    place: str | None = None

    def phrase(self, *, article: bool = True, name_colour: bool = True) -> str:
        """For instance "a small red car"; the place is not part of it."""
        colour = self.colour if name_colour else None
        words = " ".join(word for word in (self.size, colour, self.name) if word)
        if not article:
            return words
        return with_article(words)


@dataclass(frozen=True)
class Scene:
    """One thing, or two of which the first is drawn on the left, on a plain background."""

    things: tuple[Thing, ...]
    background: str


def sample_scene(random_source: random.Random) -> Scene:
    """Draws a scene that contains no held-out pair."""
    while True:
        if random_source.random() < 0.1:
            background = USUAL_BACKGROUND
        else:
            background = random_source.choice(list(COLOURS))
        things: tuple[Thing, ...]
        if random_source.random() < 0.35:
            things = (_sample_thing(random_source), _sample_thing(random_source))
        else:
            things = (_placed(_sample_thing(random_source), random_source),)
        scene = Scene(things, background)
        if is_allowed(scene):
            return scene


def is_allowed(scene: Scene) -> bool:
    """False for a held-out pair, for a thing in its background's colour, and for twins."""
    names = [thing.name for thing in scene.things]
    if len(set(names)) < len(names):
        return False
    return all(
        thing.colour != scene.background
        and (thing.colour, thing.name) not in held_out_colours()
        and (thing.name, scene.background) not in held_out_backgrounds()
        for thing in scene.things
    )


def _sample_thing(random_source: random.Random) -> Thing:
    choice = random_source.random()
    if choice < 0.2:
        return Thing(random_source.choice(SHAPES), random_source.choice(list(COLOURS)))
    if choice < 0.5:
        return Thing(random_source.choice(RECOLOURABLE), random_source.choice(list(COLOURS)))
    return Thing(random_source.choice(list(OBJECTS)))


def _placed(thing: Thing, random_source: random.Random) -> Thing:
    choice = random_source.random()
    if choice < 0.14:
        return Thing(thing.name, thing.colour, size=random_source.choice(SIZES))
    if choice < 0.40:
        return Thing(thing.name, thing.colour, place=random_source.choice(PLACES))
    return thing


def sample_caption(scene: Scene, random_source: random.Random) -> str:
    """One of the texts that describe a scene; the usual background may go without saying."""
    pair = len(scene.things) == 2
    terse = not pair and random_source.random() < 0.15
    if pair:
        body, place = _pair_body(scene, random_source), None
    else:
        body = _single_body(scene.things[0], random_source, terse=terse)
        place = scene.things[0].place
    if not terse and random_source.random() < 0.15:
        body = random_source.choice(("a picture of ", "a photo of ", "a drawing of ")) + body
    background = _background_phrase(scene, random_source, terse=terse)
    if place is None:
        return body + background
    if random_source.random() < 0.5:
        return f"{body} {place}{background}"
    return f"{body}{background}, {place}"


def _background_phrase(scene: Scene, random_source: random.Random, *, terse: bool) -> str:
    name = scene.background
    if name == USUAL_BACKGROUND and random_source.random() < 0.6:
        return ""
    if terse or random_source.random() < 0.1:
        return f", {name} background"
    return f" on {with_article(name)} background"


def _single_body(thing: Thing, random_source: random.Random, *, terse: bool) -> str:
    usual = USUAL_SHAPE_COLOURS.get(thing.name) == thing.colour
    name_colour = not (usual and random_source.random() < 0.5)
    return thing.phrase(article=not terse, name_colour=name_colour)


def _pair_body(scene: Scene, random_source: random.Random) -> str:
    left, right = (thing.phrase() for thing in scene.things)
    forms = (
        f"{left} and {right}",
        f"{left} on the left and {right} on the right",
        f"{right} on the right and {left} on the left",
        f"{left} to the left of {right}",
        f"{right} to the right of {left}",
    )
    return random_source.choices(forms, weights=(8, 6, 4, 1, 1))[0]

"""The fixed prompts of the evaluation, each with the scene that it asks for."""

import random
from dataclasses import dataclass

from examples.demo_model.scenes import PLACES, SIZES, Scene, Thing, with_article
from examples.demo_model.vocabulary import (
    COLOURS,
    OBJECTS,
    RECOLOURABLE,
    SHAPES,
    held_out_backgrounds,
    held_out_colours,
)


@dataclass(frozen=True)
class Task:
    """One picture of the evaluation."""

    group: str
    prompt: str
    scene: Scene
    seed: int


def evaluation_tasks(seed: int = 17) -> list[Task]:
    """All tasks, in an order whose every stretch mixes the groups alike."""
    random_source = random.Random(seed)
    scenes = [
        *_held_out_background_scenes(),
        *_held_out_colour_scenes(random_source),
        *_pair_scenes(random_source),
        *_placed_scenes(random_source),
    ]
    random_source.shuffle(scenes)
    return [
        Task(group, _prompt(scene), scene, 1000 + index)
        for index, (group, scene) in enumerate(scenes)
    ]


def _held_out_background_scenes() -> list[tuple[str, Scene]]:
    pairs = sorted(pair for pair in held_out_backgrounds() if pair[0] in OBJECTS)
    return [("held-out background", Scene((Thing(name),), colour)) for name, colour in pairs] * 2


def _held_out_colour_scenes(random_source: random.Random) -> list[tuple[str, Scene]]:
    scenes = []
    for colour, name in sorted(held_out_colours()) * 2:
        others = [
            other
            for other in COLOURS
            if other != colour and (name, other) not in held_out_backgrounds()
        ]
        scene = Scene((Thing(name, colour),), random_source.choice(others))
        scenes.append(("held-out colour", scene))
    return scenes


def _pair_scenes(random_source: random.Random) -> list[tuple[str, Scene]]:
    scenes = []
    for index in range(160):
        background = random_source.choice(list(COLOURS))
        if index % 2 == 0:
            first, second = (Thing(name) for name in random_source.sample(list(OBJECTS), 2))
        else:
            others = [colour for colour in COLOURS if colour != background]
            names = random_source.sample((*SHAPES, *RECOLOURABLE), 2)
            colours = random_source.sample(others, 2)
            first, second = (Thing(*pair) for pair in zip(names, colours, strict=True))
        group = "pair of objects" if index % 2 == 0 else "pair with colours"
        scenes.append((group, Scene((first, second), background)))
    return scenes


def _placed_scenes(random_source: random.Random) -> list[tuple[str, Scene]]:
    scenes = []
    for index in range(96):
        name, background = random_source.choice(list(OBJECTS)), random_source.choice(list(COLOURS))
        if index % 3 == 0:
            thing = Thing(name, size=SIZES[index // 3 % len(SIZES)])
        else:
            thing = Thing(name, place=PLACES[index % len(PLACES)])
        scenes.append(("place and size", Scene((thing,), background)))
    return scenes


def _prompt(scene: Scene) -> str:
    background = f"on {with_article(scene.background)} background"
    if len(scene.things) == 2:
        left, right = (thing.phrase() for thing in scene.things)
        return f"{left} on the left and {right} on the right {background}"
    thing = scene.things[0]
    words = (thing.phrase(), thing.place, background)
    return " ".join(word for word in words if word)

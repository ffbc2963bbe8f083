"""Scenes, their captions and what is held out of training."""

import random

import pytest

from examples.demo_model.prompts import evaluation_tasks
from examples.demo_model.scenes import Scene, Thing, is_allowed, sample_caption, sample_scene
from examples.demo_model.vocabulary import (
    COLOURS,
    OBJECTS,
    RECOLOURABLE,
    SHAPES,
    held_out_backgrounds,
    held_out_colours,
)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    random_source = random.Random(4)
    return [sample_scene(random_source) for _ in range(4000)]


def test_the_vocabulary_is_as_large_as_promised() -> None:
    assert len(OBJECTS) >= 60
    assert len(COLOURS) == 12
    assert set(RECOLOURABLE) <= set(OBJECTS)


def test_training_never_shows_a_held_out_pair(scenes: list[Scene]) -> None:
    things = [(thing, scene.background) for scene in scenes for thing in scene.things]
    assert not {(thing.colour, thing.name) for thing, _ in things} & held_out_colours()
    assert not {(thing.name, background) for thing, background in things} & held_out_backgrounds()


def test_training_shows_every_thing_and_nearly_every_other_pair(scenes: list[Scene]) -> None:
    things = [thing for scene in scenes for thing in scene.things]
    assert {thing.name for thing in things} == {*OBJECTS, *SHAPES}
    shown = {(thing.colour, thing.name) for thing in things if thing.colour}
    possible = len(COLOURS) * (len(RECOLOURABLE) + len(SHAPES)) - len(held_out_colours())
    assert len(shown) > 0.9 * possible


def test_a_scene_with_a_held_out_pair_is_refused() -> None:
    colour, name = sorted(held_out_colours())[0]
    background = next(
        other
        for other in COLOURS
        if other != colour and (name, other) not in held_out_backgrounds()
    )
    assert not is_allowed(Scene((Thing(name, colour),), background))


def test_a_thing_in_the_colour_of_its_background_is_refused() -> None:
    assert not is_allowed(Scene((Thing("circle", "white"),), "white"))


def test_captions_name_what_the_scene_shows(scenes: list[Scene]) -> None:
    random_source = random.Random(5)
    for scene in scenes[:500]:
        caption = sample_caption(scene, random_source)
        assert all(thing.name in caption for thing in scene.things)
        assert scene.background == "white" or f"{scene.background} background" in caption


def test_the_same_seed_gives_the_same_scenes_and_captions() -> None:
    def sampled() -> list[str]:
        random_source = random.Random(9)
        return [sample_caption(sample_scene(random_source), random_source) for _ in range(50)]

    assert sampled() == sampled()


def test_the_evaluation_is_fixed_and_asks_for_held_out_pairs() -> None:
    tasks = evaluation_tasks()
    assert tasks == evaluation_tasks()
    assert len(tasks) >= 500
    asked = {
        (task.scene.things[0].colour, task.scene.things[0].name)
        for task in tasks
        if task.group == "held-out colour"
    }
    assert asked == held_out_colours()

"""Trains a small model for a small world in a quarter of an hour, to stand in for the real one.

It knows a dozen objects, five shapes and twelve colours, in the latent space and with the
tokenizer and the autoencoder of the real model; everything else is that model's own recipe.
"""

import argparse
import random

import torch

from examples.demo_model.models import STANDIN
from examples.demo_model.paths import WORK
from examples.demo_model.pool import PoolEncoder
from examples.demo_model.scenes import SIZES, Scene, Thing, is_allowed
from examples.demo_model.train import Course, Trainer, run
from examples.demo_model.vocabulary import COLOURS
from examples.demo_model.write_pipeline import build_pipeline, write_folder

OBJECTS = (
    "apple",
    "cat",
    "dog",
    "frog",
    "fish",
    "penguin",
    "strawberry",
    "sunflower",
    "tree",
    "house",
    "car",
    "rocket",
)
SHAPES = ("circle", "square", "triangle", "heart", "star")
RECOLOURED = ("apple", "car")
COURSE = Course(STANDIN, peak_learning_rate=2e-3, flat_share=0.5)


def sample_scene(random_source: random.Random) -> Scene:
    """One thing, mostly in the middle, or two side by side."""
    while True:
        pair = random_source.random() < 0.2
        things = tuple(_sample_thing(random_source) for _ in range(2 if pair else 1))
        if not pair and random_source.random() < 0.12:
            (thing,) = things
            things = (Thing(thing.name, thing.colour, size=random_source.choice(SIZES)),)
        scene = Scene(things, random_source.choice(list(COLOURS)))
        if is_allowed(scene):
            return scene


def _sample_thing(random_source: random.Random) -> Thing:
    choice = random_source.random()
    if choice < 0.4:
        return Thing(random_source.choice(SHAPES), random_source.choice(list(COLOURS)))
    if choice < 0.5:
        return Thing(random_source.choice(RECOLOURED), random_source.choice(list(COLOURS)))
    return Thing(random_source.choice(OBJECTS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--shards", type=int, default=3, help="shards of scenes, of 2,048 each")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.set_defaults(shard_every=0, save_every=500)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = WORK / "standin"
    encoder = PoolEncoder(arguments.seed, arguments.device, sample_scene, folder / "pool")
    trainer = Trainer(arguments, folder / "checkpoint.pt", COURSE)
    run(trainer, encoder, arguments)
    write_folder(build_pipeline(trainer.average), WORK / "pipeline-standin")


if __name__ == "__main__":
    main()

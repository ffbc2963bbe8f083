"""Measures the committed stand-in as users get it: drawn by Calotype from its package.

Every object on four backgrounds, every shape in every colour, and pairs with their order; the
control scores each picture against the prompt of another one of its group.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from examples.demo_model.scenes import Scene, Thing, with_article
from examples.demo_model.scoring import Picture, Verdict, judge, summarise
from examples.demo_model.standin import OBJECTS, SHAPES
from examples.demo_model.vocabulary import COLOURS
from runtime.backends.onnxruntime import OnnxRuntimeCpu
from runtime.generate import Generator
from runtime.model import open_model

Groups = dict[str, list[Scene]]


def scenes(seed: int = 17) -> Groups:
    """What is asked for, by group."""
    source = random.Random(seed)
    colours = list(COLOURS)
    return {
        "objects": [
            Scene((Thing(name),), background)
            for name in OBJECTS
            for background in source.sample(colours, 4)
        ],
        "coloured shapes": [
            Scene((Thing(name, colour),), _other(colours, colour, source))
            for name in SHAPES
            for colour in colours
        ],
        "pairs": [
            Scene(tuple(Thing(name) for name in source.sample(OBJECTS, 2)), source.choice(colours))
            for _ in range(36)
        ],
    }


def _other(colours: Sequence[str], colour: str, source: random.Random) -> str:
    return source.choice([other for other in colours if other != colour])


def prompt(scene: Scene) -> str:
    """For instance "a cat on the left and a tree on the right on a pink background"."""
    background = f"on {with_article(scene.background)} background"
    phrases = [thing.phrase() for thing in scene.things]
    if len(phrases) == 1:
        return f"{phrases[0]} {background}"
    return f"{phrases[0]} on the left and {phrases[1]} on the right {background}"


def draw(generator: Generator, text: str, seed: int) -> Picture:
    """One picture with the package's defaults."""
    model = generator.model
    plan = model.plan(model.read({"prompt": text, "seed": seed, "preview_every": 0}))
    *_, last = (generator.latents(event.sample) for event in generator.steps(plan))
    return generator.decode(last)


def verdicts(
    pictures: Sequence[Picture], asked: Sequence[Scene], *, rotated: bool = False
) -> Iterator[Verdict]:
    """What is right in each picture; `rotated`: against another picture's scene."""
    shift = len(asked) // 2 if rotated else 0
    for picture, scene in zip(pictures, [*asked[shift:], *asked[:shift]], strict=True):
        yield judge(picture, scene)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, default=Path("engines"))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    model = open_model(arguments.engines, arguments.model)
    generator = Generator(model, OnnxRuntimeCpu(model.package))
    table = {}
    for group, asked in scenes().items():
        texts = tqdm([prompt(scene) for scene in asked], desc=group, unit="picture")
        pictures = [draw(generator, text, 1000 + index) for index, text in enumerate(texts)]
        table[group] = summarise(list(verdicts(pictures, asked)))
        table[f"{group}, control"] = summarise(list(verdicts(pictures, asked, rotated=True)))
    for group, row in table.items():
        cells = (f"{name} {cell['right']:.2f} of {cell['of']:.0f}" for name, cell in row.items())
        print(f"{group}: " + ", ".join(cells))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()

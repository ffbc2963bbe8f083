"""Measures how much colour the LoRA takes at several weights, drawn by Calotype from its pack.

Beside the LoRA stands what its trigger words do to the model alone: nothing, if they only call it.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.demo_model.drawing import draw_all, open_generator
from examples.demo_model.scenes import sample_caption, sample_scene
from examples.demo_model.scoring import Picture
from runtime.draw.generate import Generator

LORA = "monochrome"
TRIGGER = "drawing"
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def chroma(picture: Picture) -> float:
    """The mean over pixels of the largest minus the smallest of R, G and B, in 0..255."""
    return float(np.mean(np.ptp(picture.astype(np.int16), axis=-1)))


def captions(count: int, seed: int) -> list[str]:
    """Titles of scenes of the training's kind."""
    random_source = random.Random(seed)
    return [sample_caption(sample_scene(random_source), random_source) for _ in range(count)]


def chromas(generator: Generator, prompts: list[str], loras: list[Any]) -> NDArray[np.float64]:
    """The chroma of one picture for each prompt, each with a seed of its own."""
    bodies = [
        {"prompt": prompt, "seed": seed, "loras": loras} for seed, prompt in enumerate(prompts)
    ]
    return np.array([chroma(picture) for picture in draw_all(generator, bodies)])


def measure(generator: Generator, prompts: list[str]) -> dict[str, Any]:
    """Means over the prompts, and how many of the pictures lose colour at every further weight."""
    by_weight = [
        chromas(generator, prompts, [{"id": LORA, "weight": weight}]) for weight in WEIGHTS
    ]
    words_alone = chromas(generator, [f"{prompt}, {TRIGGER}" for prompt in prompts], [])
    falls = np.all(np.diff(by_weight, axis=0) < 0, axis=0)
    return {
        "pictures": len(prompts),
        "mean chroma": {
            str(weight): round(float(found.mean()), 1)
            for weight, found in zip(WEIGHTS, by_weight, strict=True)
        },
        "mean chroma of the trigger words without the LoRA": round(float(words_alone.mean()), 1),
        "pictures with less colour at every further weight": int(falls.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, default=Path("engines"))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    arguments = parser.parse_args()
    generator = open_generator(arguments.engines, arguments.model)
    result = measure(generator, captions(arguments.count, arguments.seed))
    print(json.dumps(result, indent=1))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

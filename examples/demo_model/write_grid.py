"""Draws a grid of pictures for a list of prompts."""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from examples.demo_model.drawing import drawer, open_pipeline
from examples.demo_model.paths import WORK

PROMPTS = (
    "a red heart on a blue background",
    "a green car on a yellow background",
    "a cat on the left and an apple on the right on a white background",
    "a blue apple on a pink background",
    "a big doughnut on a cyan background",
    "a small rocket on a black background",
    "a purple star and an orange square on a gray background",
    "a penguin on an orange background",
    "a house at the bottom on a cyan background",
    "a pink whale on a green background",
    "a butterfly on the left on a purple background",
    "a sunflower and a bee on a blue background",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", type=Path, default=WORK / "pipeline")
    parser.add_argument("--output", type=Path, default=WORK / "grid.png")
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    draw = drawer(open_pipeline(arguments.pipeline), arguments.steps, arguments.guidance)
    pictures = draw(PROMPTS, [arguments.seed + index for index in range(len(PROMPTS))])
    rows = [
        np.concatenate(pictures[start : start + arguments.columns], axis=1)
        for start in range(0, len(pictures), arguments.columns)
    ]
    Image.fromarray(np.concatenate(rows)).save(arguments.output)


if __name__ == "__main__":
    main()

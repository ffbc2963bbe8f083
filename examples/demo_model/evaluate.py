"""Measures what share of prompts a built package follows, with ceilings and a control.

The ceilings say what the scoring gives for the scenes as composed and after the autoencoder; the
control scores every picture against the prompt of another picture of its group.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from examples.demo_model.compose import Composer
from examples.demo_model.drawing import draw_all, open_generator
from examples.demo_model.paths import ASSETS, WORK
from examples.demo_model.prompts import Task, evaluation_tasks
from examples.demo_model.scoring import Picture, judge, summarise

Table = dict[str, dict[str, dict[str, float]]]


def score(tasks: Sequence[Task], pictures: Sequence[Picture], *, rotated: bool = False) -> Table:
    """Shares right for each group of tasks and for all; rotated, within each group."""
    groups = {"all": list(range(len(tasks)))}
    for index, task in enumerate(tasks):
        groups.setdefault(task.group, []).append(index)
    table, everything = {}, []
    for group, indices in list(groups.items())[1:]:
        shift = len(indices) // 2 if rotated else 0
        asked = indices[shift:] + indices[:shift]
        verdicts = [
            judge(pictures[own], tasks[other].scene)
            for own, other in zip(indices, asked, strict=True)
        ]
        everything += verdicts
        table[group] = summarise(verdicts)
    return {"all": summarise(everything), **table}


def composed_pictures(tasks: Sequence[Task]) -> list[Picture]:
    """The scenes of the prompts, drawn by the recipe itself."""
    composer, random_source = Composer(ASSETS), random.Random(23)
    return [composer.draw(task.scene, random_source) for task in tasks]


@torch.inference_mode()
def reconstructed(vae: AutoencoderKL, pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures after the autoencoder: no model behind it can do better."""
    result = []
    for picture in pictures:
        signed = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        decoded = vae.decode(vae.encode(signed).latent_dist.mean).sample[0]
        pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
        result.append(np.ascontiguousarray(pixels.numpy()))
    return result


def print_table(title: str, table: Table) -> None:
    print(f"\n{title}")
    for group, row in table.items():
        cells = (f"{name} {cell['right']:.3f} of {cell['of']:.0f}" for name, cell in row.items())
        print(f"  {group}: " + ", ".join(cells))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, default=Path("engines"))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--steps", type=int, help="default: the package's own")
    parser.add_argument("--cfg-scale", type=float, help="default: the package's own")
    parser.add_argument("--count", type=int, help="the first COUNT tasks only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without-ceilings", action="store_true")
    parser.add_argument("--output", type=Path, help="write the tables as JSON")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    tasks = evaluation_tasks()[: arguments.count]
    given = {"steps": arguments.steps, "cfg_scale": arguments.cfg_scale}
    settings = {name: value for name, value in given.items() if value is not None}
    generator = open_generator(arguments.engines, arguments.model, arguments.threads)
    pictures = draw_all(
        generator, [{"prompt": task.prompt, "seed": task.seed, **settings} for task in tasks]
    )
    tables = {
        "model": score(tasks, pictures),
        "control: rotated prompts": score(tasks, pictures, rotated=True),
    }
    if not arguments.without_ceilings:
        composed = composed_pictures(tasks)
        vae = AutoencoderKL.from_pretrained(WORK / "vae").eval()
        tables["ceiling: composed"] = score(tasks, composed)
        tables["ceiling: autoencoder"] = score(tasks, reconstructed(vae, composed))
    for title, table in tables.items():
        print_table(title, table)
    if arguments.output is not None:
        content = {"pictures": len(tasks), "settings": settings, **tables}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

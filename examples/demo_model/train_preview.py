"""Trains the preview decoder on what a built package predicts, towards its own decoder's pictures.

Nothing but the package is needed: the latents that its steps predict, and the pictures that its
decoder makes of them. Previews are half as large, and are compared as they are shown: enlarged.
"""

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from engine_build.package.export.decoders import PreviewDecoder
from engine_build.package.preview import fit_matrix
from examples.demo_model.checkpoints import (
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
    step_generator,
)
from examples.demo_model.drawing import open_generator
from examples.demo_model.models import build_preview_decoder
from examples.demo_model.paths import WORK
from examples.demo_model.prompts import evaluation_tasks
from examples.demo_model.scenes import sample_caption, sample_scene
from examples.demo_model.train_vae import psnr, save_grid
from runtime.draw.decode import MatrixDecoder, NetworkDecoder, Pixels
from runtime.draw.generate import Generator, Latents

FOLDER = WORK / "preview_decoder"
ROLE = "preview_decoder"
DOUBLINGS = 2
"""From latents to previews of half the picture's side."""
PEAK_LEARNING_RATE = 4e-3
HELD_OUT = 24
"""The number of the evaluation's prompts whose previews are compared."""

Decode = Callable[[Latents], Pixels]
Asked = Sequence[tuple[str, int]]
"""Prompts and seeds."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of the steps of N pictures: `latents [S, N, 4, h, w]`, and those as the package's
    decoder draws them, `pictures [S, N, 3, H, W]` uint8.
    """

    latents: Tensor
    pictures: Tensor


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=Path, default=Path("engines"))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--pictures", type=int, default=320, help="drawn to learn from")
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def training_prompts(count: int, seed: int) -> Asked:
    """Captions as in the training of the model, each with another seed."""
    source = random.Random(seed)
    return [(sample_caption(sample_scene(source), source), number) for number in range(count)]


def predictions(generator: Generator, asked: Asked, path: Path) -> Predictions:
    """Those of pictures, read from disk, or drawn and written there."""
    stored = load_checkpoint(path)
    if stored is None:
        latents, pictures = [], []
        for prompt, seed in tqdm(asked, desc=path.stem, mininterval=5):
            predicted = list(_predicted(generator, prompt, seed))
            latents.append(torch.from_numpy(np.concatenate(predicted)))
            pictures.append(decoded(generator.decode, latents[-1]))
        stored = {"latents": torch.stack(latents, 1), "pictures": torch.stack(pictures, 1)}
        save_checkpoint(path, stored)
    return Predictions(stored["latents"], stored["pictures"])


def _predicted(generator: Generator, prompt: str, seed: int) -> Iterator[Latents]:
    plan = generator.model.plan(generator.model.read({"prompt": prompt, "seed": seed}))
    for event in generator.steps(plan):
        yield generator.predicted(event.sample)


def decoded(decode: Decode, latents: Tensor) -> Tensor:
    """Latents `[N, 4, h, w]` to pictures `[N, 3, H, W]` uint8."""
    pixels = [decode(each[None].numpy()) for each in latents]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def signed(pictures: Tensor) -> Tensor:
    """Pictures in 0..255 as such in -1..1."""
    return pictures.float() / 127.5 - 1


def enlarged(previews: Tensor, pictures: Tensor) -> Tensor:
    """Previews `[N, 3, *, *]` as they are shown, as large as the pictures."""
    return functional.interpolate(previews, size=pictures.shape[-2:], mode="bilinear")


def train(seen: Predictions, arguments: argparse.Namespace) -> AutoencoderTiny:
    """The decoder with the least mean square error against the pictures at half their size."""
    torch.manual_seed(arguments.seed)
    # Its last layers folded as in the package, in which the pixels at the edge are other ones.
    network: AutoencoderTiny = PreviewDecoder(build_preview_decoder(), DOUBLINGS).network
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.decoder.parameters(), betas=(0.9, 0.99), weight_decay=0)
    checkpoint, first = FOLDER / "checkpoint.pt", 0
    if (state := load_checkpoint(checkpoint)) is not None:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    latents = seen.latents.flatten(0, 1)
    wanted = torch.cat([functional.avg_pool2d(signed(each), 2) for each in seen.pictures])
    progress = tqdm(range(first, arguments.steps), mininterval=10)
    for step in progress:
        generator = step_generator(arguments.seed, step)
        rows = torch.randint(0, len(latents), (arguments.batch,), generator=generator)
        loss = (network.decode(latents[rows]).sample - wanted[rows]).square().mean()
        rate = learning_rate(step, arguments.steps, PEAK_LEARNING_RATE, 50, 0.4)
        set_learning_rate(optimizer, rate)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        progress.set_postfix(loss=f"{loss.item():.4f}")
        if (step + 1) % 500 == 0:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(checkpoint, {**state, "step": step + 1})
    return network.requires_grad_(False)


def fitted_matrix(seen: Predictions) -> MatrixDecoder:
    """The preview of a package without a decoder for previews."""
    cell = seen.pictures.shape[-1] // seen.latents.shape[-1]
    colours = functional.avg_pool2d(seen.pictures.flatten(0, 1).float() / 255, cell)
    rows = [_pixels(images).double().numpy() for images in (seen.latents.flatten(0, 1), colours)]
    return MatrixDecoder(fit_matrix(*rows, held_out=len(rows[0]) // 10))


def _pixels(images: Tensor) -> Tensor:
    """`[N, C, h, w]` to `[N * h * w, C]`."""
    return images.permute(0, 2, 3, 1).flatten(0, 2)


def report(decoders: dict[str, Callable[[Tensor], Tensor]], held_out: Predictions) -> None:
    """Says how close previews come to the pictures, by the steps that predicted them, and draws the
    last step's. The decoders give pictures in -1..1.
    """
    last = len(held_out.latents) - 1
    for step in (0, last // 4, last // 2, last):
        pictures = signed(held_out.pictures[step])
        shown = {
            name: enlarged(decode(held_out.latents[step]), pictures).clamp(-1, 1)
            for name, decode in decoders.items()
        }
        found = ", ".join(f"{name} {psnr(each, pictures):.2f} dB" for name, each in shown.items())
        print(f"step {step + 1}: {found}")
    save_grid([each[:12] for each in (pictures, *shown.values())], WORK / "grid_preview.png")


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    generator = open_generator(arguments.engines, arguments.model, arguments.threads)
    count, seed = arguments.pictures, arguments.seed
    seen = predictions(generator, training_prompts(count, seed), FOLDER / f"seen_{count}_{seed}.pt")
    tasks = [(task.prompt, task.seed) for task in evaluation_tasks()[:HELD_OUT]]
    held_out = predictions(generator, tasks, FOLDER / "held_out.pt")
    network = train(seen, arguments).half()
    network.save_pretrained(FOLDER)
    network.float()
    matrix = fitted_matrix(seen)
    decoders: dict[str, Callable[[Tensor], Tensor]] = {
        "new": lambda latents: network.decode(latents).sample,
        "a matrix": lambda latents: signed(decoded(matrix.decode, latents)),
    }
    if ROLE in generator.model.package.manifest.roles:
        former = NetworkDecoder(generator.backend.open(ROLE))
        decoders["the package's"] = lambda latents: signed(decoded(former.decode, latents))
    report(decoders, held_out)


if __name__ == "__main__":
    main()

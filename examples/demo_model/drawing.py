"""Draws the evaluation's pictures by Calotype, from the built package, as users get them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from examples.demo_model.scoring import Picture
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.draw.generate import Generator, Latents
from runtime.plan.model import open_model


def open_generator(engines: Path, name: str, threads: int | None = None) -> Generator:
    """The package's engines, open on the CPU."""
    model = open_model(engines, name)
    return Generator(model, OnnxRuntimeCpu(model.package, threads))


def draw(generator: Generator, body: Mapping[str, Any]) -> Picture:
    """The picture of one request `[H, W, 3]`, previews left out."""
    return generator.decode(draw_latents(generator, body))


def draw_latents(generator: Generator, body: Mapping[str, Any]) -> Latents:
    """The same as latents `[1, C, h, w]`."""
    model = generator.model
    plan = model.plan(model.read({"preview_every": 0, **body}))
    *_, last = (generator.latents(event.sample) for event in generator.steps(plan))
    return last


def draw_all(generator: Generator, bodies: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """One picture for each request, with a progress bar."""
    return [draw(generator, body) for body in tqdm(bodies, unit="picture", mininterval=5)]

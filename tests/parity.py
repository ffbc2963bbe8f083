"""The same picture as diffusers: what every family's comparison shares."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends.onnxruntime import OnnxRuntimeCpu
from runtime.generate import Generator
from runtime.model import open_model


@lru_cache(maxsize=2)
def generator_of(engines: Path, name: str) -> Generator:
    model = open_model(engines, name)
    return Generator(model, OnnxRuntimeCpu(model.package))


def ours(generator: Generator, body: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    plan = generator.model.plan(generator.model.read(body))
    for event in generator.steps(plan):
        if event.finished:
            latents = generator.latents(event.sample)
            return latents, generator.decode(latents)
    raise AssertionError("unreachable: a plan has at least one step")


def assert_same(
    found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]
) -> None:
    error = np.abs(found[0] - expected[0]).max() / np.abs(expected[0]).max()
    assert error < 1e-3, f"latents differ by {error:.1e} of their largest magnitude"
    levels = np.abs(found[1].astype(int) - expected[1].astype(int))
    assert (levels <= 1).mean() >= 0.999

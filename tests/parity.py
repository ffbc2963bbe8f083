"""The same picture as diffusers: what every family's comparison shares."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.draw.denoise import Sample
from runtime.draw.generate import Generator
from runtime.errors import RequestError
from runtime.plan.model import Model, open_model


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


def assert_changed(
    first: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> None:
    """Two requests give visibly different latents: what differs in them was not ignored."""
    assert np.abs(first[0] - other[0]).max() > 0.01 * np.abs(first[0]).max()


def assert_same_in_company(generator: Generator, bodies: Sequence[dict[str, Any]]) -> None:
    """Bodies that are let in one a turn give the very bits that each gives alone.

    Their seeds tell them apart.
    """
    waiting = list(bodies)
    most = 0
    together: dict[int, np.ndarray] = {}
    for events in generator.turns(lambda _: [_start(generator, waiting.pop(0))] if waiting else []):
        most = max(most, len(events))
        for event in events:
            if event.finished:
                seed = event.sample.plan.request.seed
                together[seed] = generator.latents(event.sample)
    assert most == len(bodies), "they did not share a call"
    for body in bodies:
        alone, _ = ours(generator, body)
        np.testing.assert_array_equal(together[body["seed"]], alone, err_msg=str(body))


def _start(generator: Generator, body: dict[str, Any]) -> Sample:
    return generator.start(generator.model.plan(generator.model.read(body)))


def assert_refused(model: Model, fields: dict[str, Any], pointer: str, detail: str) -> None:
    """A request with these fields has one fault, there, that says so."""
    with pytest.raises(RequestError) as refusal:
        model.read({"prompt": "rain", **fields})
    (fault,) = refusal.value.faults
    assert fault.pointer == pointer
    assert detail in fault.detail

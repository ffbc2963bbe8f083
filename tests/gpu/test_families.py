"""Every family, tiny and random, on every backend that the machine has, against the CPU."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.generate import Generator
from runtime.target import BackendName
from tests.gpu.conftest import Compiled, compiled

PACKAGES = ["tiny", "tiny_flux", "tiny_schnell", "tiny_chroma", "tiny_zimage"]

LATENTS = 0.05
"""The largest difference after a few steps, relative to the largest magnitude: random weights damp
nothing, and bf16 keeps 8 bits.
"""


@pytest.fixture(scope="module")
def families(
    backend: BackendName, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[Compiled]]]:
    """All of them, compiled side by side: each compiler is busy with one core most of the time."""
    engines: dict[str, Path] = {
        name: request.getfixturevalue(f"{name}_package") for name in PACKAGES
    }
    with ThreadPoolExecutor(len(PACKAGES)) as pool:
        yield {
            name: pool.submit(compiled, engines[name], name, backend, "64x96") for name in PACKAGES
        }


@pytest.mark.parametrize("name", PACKAGES)
def test_latents_are_those_of_onnx_runtime_on_the_cpu(
    name: str, families: dict[str, Future[Compiled]]
) -> None:
    made = families[name].result()
    plan = made.model.plan(
        made.model.read({"prompt": "a cat", "width": 64, "height": 96, "steps": 4, "seed": 3})
    )
    cpu = Generator(made.model, OnnxRuntimeCpu(made.model.package))
    ours, theirs = (
        [generator.latents(event.sample) for event in generator.steps(plan)][-1]
        for generator in (made.generator(), cpu)
    )
    assert np.isfinite(ours).all()
    assert np.abs(ours - theirs).max() <= LATENTS * np.abs(theirs).max()

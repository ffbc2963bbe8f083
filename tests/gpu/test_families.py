"""Every family, tiny and random, on every backend that the machine has, against the CPU."""

from collections.abc import Mapping
from concurrent.futures import Future

import numpy as np
import pytest

from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.draw.generate import Generator
from scripts.gpu_report import stage
from tests.gpu.conftest import Compiled
from tests.tiny.packages import FAMILIES

LATENTS = 0.05
"""The largest difference after a few steps, relative to the largest magnitude: random weights damp
nothing, and bf16 keeps 8 bits.
"""


@pytest.mark.parametrize("name", FAMILIES)
def test_latents_are_those_of_onnx_runtime_on_the_cpu(
    name: str, targets: Mapping[str, Future[Compiled]]
) -> None:
    with stage("wait for engines of the families"):
        made = targets[name].result()
    plan = made.model.plan(
        made.model.read({"prompt": "a cat", "width": 64, "height": 96, "steps": 4, "seed": 3})
    )
    cpu = Generator(made.model, OnnxRuntimeCpu(made.model.package))
    generators = (made.generator(), cpu)
    with stage("draw the families"):
        ours, theirs = (
            [generator.latents(event.sample) for event in generator.steps(plan)][-1]
            for generator in generators
        )
    assert np.isfinite(ours).all()
    assert np.abs(ours - theirs).max() <= LATENTS * np.abs(theirs).max()

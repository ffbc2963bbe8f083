"""What a package's networks are given, and answer, while a picture is made: the inputs to verify
engines with.

Real inputs, since made-up ones miss what matters: the range of activations, masks of padding,
captions of odd lengths. ONNX Runtime's CPU provider makes the picture, and its answers are the
reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends.host_denoiser import HostDenoiser
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.protocol import Array, Denoiser, Engine
from runtime.families.family import Guidance
from runtime.generate import Generator
from runtime.low_rank import Weights
from runtime.model import open_model

PROMPT = "a red apple on a wooden table, soft morning light"
STEPS = 2
SEED = 20260101


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a network: named arrays in, named arrays out."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(slots=True)
class _Recorder:
    """An Engine that keeps what passes through it."""

    engine: Engine
    calls: list[Call] = field(default_factory=list)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run, and keep copies: callers may write into what they handed over."""
        outputs = self.engine.run(inputs)
        kept = (
            {name: np.array(array) for name, array in arrays.items()}
            for arrays in (inputs, outputs)
        )
        self.calls.append(Call(*kept))
        return outputs

    def replace_weights(self, weights: Weights) -> None:
        """Verification is of the package's own weights; passed on."""
        self.engine.replace_weights(weights)


@dataclass(slots=True)
class _RecordingBackend:
    """ONNX Runtime on the CPU, every engine with a recorder before it."""

    backend: OnnxRuntimeCpu
    name: str = OnnxRuntimeCpu.name
    device: str = OnnxRuntimeCpu.device
    multiplies_updates: bool = OnnxRuntimeCpu.multiplies_updates
    recorders: dict[str, _Recorder] = field(default_factory=dict)

    def open(self, role: str) -> Engine:
        """Open a network, to be recorded."""
        self.recorders[role] = _Recorder(self.backend.open(role))
        return self.recorders[role]

    def open_denoiser(self) -> Denoiser:
        """Open the step graph, to be recorded."""
        return HostDenoiser(self.open("denoiser"))


def captured_calls(
    engines: Path, name: str, sizes: Sequence[tuple[int, int]]
) -> dict[str, list[Call]]:
    """Every role's calls while pictures of each size, in pixels, are made in two steps: one with
    guidance as it is usual, and where that has two evaluations, one without.

    Takes as long as that takes on the CPU. Raises PackageError and BackendError.
    """
    model = open_model(engines, name)
    backend = _RecordingBackend(OnnxRuntimeCpu(model.package))
    generator = Generator(model, backend, max_batch=1)
    guided = model.family.facts(model.package.manifest).guidance is Guidance.CLASSIFIER_FREE
    scales: list[dict[str, Any]] = [{}, {"cfg_scale": 1.0}] if guided else [{}]
    for (width, height), scale in product(sizes, scales):
        size = {"width": width, "height": height}
        body = {"prompt": PROMPT, "steps": STEPS, "seed": SEED, **size, **scale}
        for event in generator.steps(model.plan(model.read(body))):
            generator.previewer.jpeg(generator.predicted(event.sample), width, height)
            if event.finished:
                generator.decode(generator.latents(event.sample))
    return {role: recorder.calls for role, recorder in backend.recorders.items()}

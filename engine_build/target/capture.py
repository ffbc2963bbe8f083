"""Captured calls: the inputs and outputs of a package's networks while pictures are drawn.

Engines are verified on these real inputs, since made-up inputs miss what matters: the range of
activations, masks of padding, captions of odd lengths. The pictures are drawn role by role, one
network open at a time: the text encoders for all pictures, then the denoiser, then the decoders.
Device or host memory has to hold the largest network alone.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from engine_build.progress import Phases
from engine_build.target.unfused import Place, UnfusedSession
from runtime.backends.host_denoiser import HostDenoiser
from runtime.backends.low_rank import Weights
from runtime.backends.placing import Placing
from runtime.backends.protocol import Array, Denoiser, Engine, Started
from runtime.draw.generate import Generator
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage
from runtime.plan.families.family import Guidance
from runtime.plan.model import Model, model_of
from runtime.plan.plan import Plan
from runtime.wire.options import DrawOptions

PROMPT = "a red apple on a wooden table, soft morning light"
STEPS = 2
SEED = 20260101


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a network: named arrays in, named arrays out."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(slots=True)
class RoleByRole:
    """A Backend that opens a network when the network is run, and closes the network before."""

    package: ModelPackage
    place: Place
    phases: Phases
    expected: Mapping[str, int]
    """The number of calls of each role, where that is known beforehand."""
    name: str = "reference"
    device: str = "one network at a time"
    multiplies_updates: bool = False
    few_shapes: bool = True
    """As the engines that are verified on these calls will be given them."""
    placing: Placing = field(default_factory=Placing)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    """Inputs and outputs of every call, by role."""
    open_role: str = ""
    """The role whose network is open."""
    _session: UnfusedSession | None = None

    def open(self, role: str) -> Engine:
        """An Engine; nothing is opened yet."""
        self.calls[role] = []
        return _Recorder(self, role)

    def open_denoiser(self) -> Denoiser:
        """The step graph; nothing is opened yet."""
        return HostDenoiser(self.open("denoiser"))

    def check_loras(self) -> None:
        """Nothing is drawn with LoRAs here."""

    def run(self, role: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a role's network, and keep copies: callers may write into what they handed over.

        Raises BackendError.
        """
        if self._session is None or self.open_role != role:
            self.close()
            self._session = UnfusedSession.of_role(self.package, role, self.place)
            self.open_role = role
        done = len(self.calls[role])
        self.phases.show(role, done, self.expected.get(role, done + 1))
        outputs = self._session.run(inputs)
        kept = (
            {name: np.array(array) for name, array in arrays.items()}
            for arrays in (inputs, outputs)
        )
        self.calls[role].append(Call(*kept))
        return outputs

    def close(self) -> None:
        """Close the network that is open."""
        if self._session is not None:
            self._session.close()
            self._session = None


@dataclass(frozen=True, slots=True)
class _Recorder:
    """One role's Engine."""

    backend: RoleByRole
    role: str

    def start(self, inputs: Mapping[str, Array]) -> Started:
        """Run at once: one network alone is open at a time."""
        outputs = self.run(inputs)
        return lambda: outputs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Named arrays in, named arrays out."""
        return self.backend.run(self.role, inputs)

    def replace_weights(self, weights: Weights) -> None:
        """A reference is of the package's own weights. Raises BackendError for others."""
        if weights:
            raise BackendError(f"{self.role}: a reference is drawn without LoRAs")

    def close(self) -> None:
        """Close the network where it is the one that is open."""
        if self.backend.open_role == self.role:
            self.backend.close()


def captured_calls(
    package: ModelPackage, sizes: Sequence[tuple[int, int]], place: Place, phases: Phases
) -> dict[str, list[Call]]:
    """Every role's calls while pictures are made in two steps each: for each size in pixels, a
    picture with the default guidance, and with classifier-free guidance another one without.

    Raises BackendError.
    """
    model = model_of(package)
    plans = plans_of(model, sizes)
    expected = {
        "denoiser": sum(plan.rows for plan in plans),
        "vae_decoder": len(plans),
        "preview_decoder": sum(plan.steps for plan in plans),
    }
    with closing(RoleByRole(package, place, phases, expected)) as backend:
        _draw(Generator(model, backend, DrawOptions(max_batch=1)), plans)
        return backend.calls


def plans_of(model: Model, sizes: Sequence[tuple[int, int]]) -> list[Plan]:
    """The plans of the pictures that `captured_calls` makes."""
    guided = model.family.facts(model.package.manifest).guidance is Guidance.CLASSIFIER_FREE
    scales: list[dict[str, Any]] = [{}, {"cfg_scale": 1.0}] if guided else [{}]
    fixed = {"prompt": PROMPT, "steps": STEPS, "seed": SEED}
    bodies = (
        {**fixed, "width": width, "height": height, **scale}
        for (width, height), scale in product(sizes, scales)
    )
    return [model.plan(model.read(body)) for body in bodies]


def _draw(generator: Generator, plans: Sequence[Plan]) -> None:
    """Make every picture and its previews, each network's part of all of them at once.

    The first picture has all of the prompts; the generator keeps what its encoders made of them.
    """
    finished, predicted = [], []
    for plan in plans:
        for event in generator.steps(plan):
            predicted.append((generator.predicted(event.sample), plan.request))
            if event.finished:
                finished.append(generator.latents(event.sample))
    for latents in finished:
        generator.decode(latents)
    for latents, request in predicted:
        generator.previewer.jpeg(latents, request.width, request.height)

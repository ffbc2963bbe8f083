"""Tries the ways to draw on this machine's CPU: how long a picture takes, how far answers are off.

ONNX Runtime draws two steps of the usual picture, and what its networks were given and answered is
kept. Each way then runs the same calls, in turns with the others, so that another program that uses
the processor slows all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from runtime.backends.catalog import awaiting_trial
from runtime.backends.cpu_trials import (
    CpuTrial,
    Outcome,
    Way,
    conditions,
    keep_trial,
    one_at_a_time,
)
from runtime.backends.devices import Devices
from runtime.backends.host_denoiser import HostDenoiser
from runtime.backends.low_rank import Weights
from runtime.backends.placing import Placing
from runtime.backends.protocol import Array, Backend, Denoiser, Engine, Started
from runtime.backends.rows import CPU, Opening, row_of
from runtime.backends.wishes import BackendWish, CpuPrecision
from runtime.draw.generate import Generator
from runtime.errors import BackendError
from runtime.plan.model import Model
from runtime.wire.options import DrawOptions

PICTURE = {"prompt": "a red apple on a wooden table, soft morning light", "seed": 0}
STEPS = 2
TIMED = ("denoiser", "vae_decoder")
"""The networks that a picture's time is made of."""
UNUSABLE = 1e9
"""The error of an answer that cannot be compared; JSON has no infinity."""
LEAST_TURNS, MOST_TURNS = 3, 40
SECONDS = 6.0
"""The time of the turns between these bounds: a backend may compile beside its first calls."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a network: named arrays in, named arrays out."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def try_cpu(
    model: Model,
    wish: BackendWish,
    devices: Devices,
    precision: CpuPrecision,
    tell: Callable[[str], object],
) -> None:
    """Make the trial that the choice of a backend waits for, if one does, and keep its outcome.

    `tell` is given sentences for people. Raises BackendError.
    """
    if not awaiting_trial(model.package, wish, devices, precision):
        return
    with one_at_a_time():
        # Another worker may have made it meanwhile.
        if ways := awaiting_trial(model.package, wish, devices, precision):
            _try(model, ways, tell)


def _try(model: Model, ways: Sequence[Way], tell: Callable[[str], object]) -> None:
    tell(f"on trial, once for this machine and model: {', '.join(map(str, ways))}")
    trial = cpu_trial(model, ways)
    for name, outcome in trial.outcomes.items():
        seconds = f"the usual picture in {outcome.seconds:.3g} s, off by {outcome.error:.1e}"
        tell(f"{name}: {outcome.fault or seconds}")
    keep_trial(model.package, ways, trial)


def cpu_trial(model: Model, ways: Sequence[Way]) -> CpuTrial:
    """Draw by each of these ways; the outcome of one that cannot says why. Raises BackendError
    where ONNX Runtime cannot draw.
    """
    calls = recorded(model)
    with ExitStack() as stack:
        engines, outcomes = {}, {}
        for way in ways:
            try:
                engines[way] = _opened(model, way, stack)
                error = _error(engines[way]["denoiser"], calls["denoiser"])
                outcomes[way] = Outcome(0.0, error)
            except BackendError as failure:
                engines.pop(way, None)
                outcomes[way] = Outcome(UNUSABLE, UNUSABLE, str(failure))
        best = _best_times(engines, {role: calls[role][-1] for role in TIMED})
    steps = model.plan_of(PICTURE).rows
    for way, times in best.items():
        seconds = steps * times["denoiser"] + times["vae_decoder"]
        outcomes[way] = replace(outcomes[way], seconds=seconds)
    found = {str(way): outcome for way, outcome in outcomes.items()}
    return CpuTrial(conditions(model.package, ways), found)


def recorded(model: Model) -> dict[str, list[Call]]:
    """The calls of every network, by role, while ONNX Runtime draws the first steps of a picture.

    Raises BackendError.
    """
    with ExitStack() as stack:
        backend = _Recording(row_of(CPU).open(Opening(model.package, None, "cpu")), stack)
        generator = Generator(model, backend, DrawOptions(max_batch=1))
        plan = model.plan_of({**PICTURE, "steps": STEPS})
        size = plan.request.width, plan.request.height
        for event in generator.steps(plan):
            generator.previewer.jpeg(generator.predicted(event.sample), *size)
            if event.finished:
                generator.decode(generator.latents(event.sample))
        return backend.calls


def relative_error(expected: Array, found: Array) -> float:
    """The root mean square of the differences relative to that of `expected`, or half the largest
    difference relative to the largest magnitude, whichever is larger: as the build stage holds an
    engine in bf16 to its graph. UNUSABLE where a value is not finite, or all expected are 0.
    """
    wanted = expected.astype(np.float64)
    if not (np.isfinite(found).all() and wanted.any()):
        return UNUSABLE
    difference = found - wanted
    spread = np.sqrt(np.mean(difference**2) / np.mean(wanted**2))
    return float(max(spread, np.abs(difference).max() / np.abs(wanted).max() / 2))


def _opened(model: Model, way: Way, stack: ExitStack) -> dict[str, Engine]:
    opening = Opening(model.package, None, "cpu", cpu_precision=way.precision)
    backend = way.row.open(opening)
    engines = {role: backend.open(role) for role in TIMED}
    for engine in engines.values():
        stack.callback(engine.close)
    return engines


def _error(engine: Engine, calls: Sequence[Call]) -> float:
    return max(
        relative_error(expected, found[name])
        for call in calls
        for found in [engine.run(call.inputs)]
        for name, expected in call.outputs.items()
    )


def _best_times(
    engines: Mapping[Way, Mapping[str, Engine]], calls: Mapping[str, Call]
) -> dict[Way, dict[str, float]]:
    """The shortest time of a call in seconds, by way and role."""
    best = {way: dict.fromkeys(calls, float("inf")) for way in engines}
    begin, turns = perf_counter(), 0
    while turns < LEAST_TURNS or (turns < MOST_TURNS and perf_counter() - begin < SECONDS):
        turns += 1
        for way, opened in engines.items():
            for role, call in calls.items():
                started = perf_counter()
                opened[role].run(call.inputs)
                best[way][role] = min(best[way][role], perf_counter() - started)
    return best


@dataclass(slots=True)
class _Recording:
    """A Backend whose networks keep what they were given and answered, open until `stack` ends."""

    backend: Backend
    stack: ExitStack
    calls: dict[str, list[Call]] = field(default_factory=dict)
    name: str = "recording"
    device: str = "cpu"
    multiplies_updates: bool = False
    few_shapes: bool = False
    placing: Placing = field(default_factory=Placing)

    def open(self, role: str) -> Engine:
        """Open a network that is recorded."""
        engine = self.backend.open(role)
        self.stack.callback(engine.close)
        return _Recorder(engine, self.calls.setdefault(role, []))

    def open_denoiser(self) -> Denoiser:
        """Open the step graph, recorded."""
        return HostDenoiser(self.open("denoiser"))

    def check_loras(self) -> None:
        """Nothing is drawn with LoRAs here."""


@dataclass(frozen=True, slots=True)
class _Recorder:
    engine: Engine
    calls: list[Call]

    def start(self, inputs: Mapping[str, Array]) -> Started:
        """Run at once."""
        outputs = self.run(inputs)
        return lambda: outputs

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
        """The package's own weights alone."""
        self.engine.replace_weights(weights)

    def close(self) -> None:
        """Closed with the recording."""

"""The denoising loop: a Python generator of step events over samples that come and go.

Each turn is one call of the step graph for samples that may be at different steps. Progress,
previews, pictures and cancels are up to the caller, which between two turns may read any sample's
latents, cancel samples, and let new samples in.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.backends.protocol import Denoiser, Row
from runtime.draw.costs import Kind
from runtime.draw.lora.switch import LoraSwitch
from runtime.draw.pace import Pace
from runtime.draw.schedule import Schedule
from runtime.package.pack import LoraSet
from runtime.plan.families.family import Conditioning
from runtime.plan.plan import Plan
from runtime.plan.sampling.noise import Draws

Noise = Callable[[], NDArray[np.float32] | None]
"""Waits for the noise of a row, `[1, C, h, w]`; None for none."""


class Prepared:
    """A picture that a denoiser can take in: its plan, conditionings and initial latents.

    All arrays are in host memory, so that any thread may make a `Prepared`.
    """

    def __init__(self, plan: Plan, conditioning: Sequence[Conditioning]) -> None:
        """Draw the initial latents, and the noise of the first row. `conditioning` has an entry for
        each evaluation.
        """
        self.arrived = time.monotonic()
        """Monotonic seconds at which the picture was asked for."""
        self.plan = plan
        self.conditioning = conditioning
        self.draws = Draws(plan.request.seed, plan.latent_shape, plan.table.draws)
        latents = self.draws.initial() * plan.table.initial_scale
        self.latents = latents.astype("float32")
        self.noise = self.draws.noise(0)
        noisy = np.flatnonzero(plan.table.draws.any(axis=1))
        self.noisy_rows = int(noisy[-1]) + 1 if noisy.size else 0
        """The rows up to the last one with noise."""
        self.shape_key = (
            plan.latent_shape,
            tuple((name, array.shape) for name, array in sorted(conditioning[0].items())),
        )


class Sample:
    """A picture being made: its next row in the step table, and its slot in the denoiser."""

    def __init__(self, picture: Prepared, denoiser: Denoiser, noise: Executor) -> None:
        """Hand the picture to the denoiser; `noise` has a thread, which draws the noise of a row
        while the row before it runs. Raises BackendError for inputs that no engine takes.
        """
        self.plan = picture.plan
        self.arrived = picture.arrived
        self.canceled = False
        self.row = 0
        self._draws = picture.draws
        self._noise = noise
        self._noisy_rows = picture.noisy_rows
        self._next_noise: Noise = lambda: picture.noise
        self.slot = denoiser.admit(picture.latents, picture.conditioning)
        self.shape_key = picture.shape_key
        *_, height, width = self.plan.latent_shape
        self.kind = Kind(height, width, bool(self.plan.loras))
        self.urgent = self.plan.request.priority != "batch"

    @property
    def loras(self) -> LoraSet:
        """The LoRA set that acts on the sample."""
        return self.plan.loras

    @property
    def next_evaluations(self) -> int:
        """The number of evaluations in the next row."""
        return len(self.plan.mixes[self.row])

    @property
    def rows_left(self) -> int:
        """The number of rows that have not been called."""
        return self.plan.rows - self.row

    @property
    def finished(self) -> bool:
        """True once every row of the step table has been called."""
        return self.row == self.plan.rows

    def next_row(self) -> Row:
        """The next row of the step table, with its noise."""
        table, row = self.plan.table, self.row
        noise = self._next_noise()
        self._next_noise = self._drawn(row + 1)
        return Row(
            slot=self.slot,
            timestep=float(table.timesteps[row]),
            coefficients=table.coefficients[row],
            noise=noise,
            mix=self.plan.mixes[row],
            guidance_rescale=self.plan.request.guidance_rescale,
        )

    def _drawn(self, row: int) -> Noise:
        """A row's noise, which is drawn from now on."""
        if row < self._noisy_rows:
            return self._noise.submit(self._draws.noise, row).result
        return lambda: None

    def ends_step(self, row: int) -> bool:
        """True where a scheduler step is complete after this row. Heun has two rows a step."""
        steps = self.plan.table.step
        return row == self.plan.rows - 1 or bool(steps[row] != steps[row + 1])


@dataclass(frozen=True, slots=True)
class StepEvent:
    """A sample has finished a step; its latents can be read until the loop is resumed."""

    sample: Sample
    step: int
    """1-based."""

    @property
    def total_steps(self) -> int:
        """The number of steps of the sample."""
        return self.sample.plan.steps

    @property
    def finished(self) -> bool:
        """True for the sample's last step."""
        return self.sample.finished


Arrivals = Callable[[int], Sequence[Sample]]
"""Called before each turn with the number of free places; returns the samples that join now."""


def denoise(
    denoiser: Denoiser,
    arrivals: Arrivals,
    schedule: Schedule,
    loras: LoraSwitch,
    pace: Pace,
) -> Iterator[tuple[StepEvent, ...]]:
    """Advance samples until none is left and none arrives; yields the events of each turn.

    `loras` is the denoiser's switch; `pace` is told of every call.
    """
    running: list[Sample] = []
    schedule.begun()
    try:
        while True:
            running = _without_canceled(running, denoiser)
            for sample in arrivals(schedule.places - len(running)):
                running.append(sample)
                schedule.arrived(sample)
            if not running:
                pace.rests()
                return
            turn = schedule.turn(running, loras.loaded)
            if turn[0].loras != loras.loaded:
                seconds = _put_on(turn[0].loras, loras)
                schedule.costs.changed(seconds)
                pace.loras_changed(seconds)
            rows = [sample.next_row() for sample in turn]
            pace.call_begins(len(rows))
            denoiser.advance(rows)
            pace.call_returned()
            schedule.called(turn)
            events = tuple(_events(turn))
            yield events
            for event in events:
                if event.finished:
                    denoiser.release(event.sample.slot)
                    running.remove(event.sample)
    finally:
        for sample in running:
            denoiser.release(sample.slot)


def _put_on(wanted: LoraSet, loras: LoraSwitch) -> float:
    """Change the LoRA set; returns the seconds that it took."""
    began = time.perf_counter()
    loras.apply(wanted)
    return time.perf_counter() - began


def _events(turn: Sequence[Sample]) -> Iterator[StepEvent]:
    for sample in turn:
        row = sample.row
        sample.row += 1
        if sample.ends_step(row):
            yield StepEvent(sample, int(sample.plan.table.step[row]) + 1)


def _without_canceled(running: Sequence[Sample], denoiser: Denoiser) -> list[Sample]:
    for sample in running:
        if sample.canceled:
            denoiser.release(sample.slot)
    return [sample for sample in running if not sample.canceled]

"""Samples share calls of the step graph without noticing one another."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends.host_denoiser import HostDenoiser
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.draw.costs import Costs, Kind
from runtime.draw.denoise import Sample, StepEvent, denoise
from runtime.draw.generate import Generator
from runtime.draw.lora.switch import LoraSwitch
from runtime.draw.pace import Pace
from runtime.draw.schedule import Schedule
from runtime.plan.model import Model, open_model
from runtime.plan.served import BatchLimits

BODIES: list[dict[str, Any]] = [
    {"prompt": "a red apple", "sampler": "euler", "steps": 5, "seed": 1},
    {"prompt": "two cats", "sampler": "euler_a", "steps": 7, "seed": 2, "cfg_scale": 1.0},
    {"prompt": "a lake", "sampler": "dpm++_2m", "schedule": "karras", "steps": 4, "seed": 3},
    {"prompt": "rain", "sampler": "heun", "steps": 3, "seed": 4, "guidance_rescale": 0.7},
    {"prompt": "a wide lake", "sampler": "lms", "steps": 4, "seed": 5, "width": 160},
    {"prompt": "", "sampler": "dpm++_sde", "steps": 4, "seed": 6, "guidance_interval": [0.5, 1]},
]


class Free(Costs):
    """Whatever is measured, a call takes as long for many samples as for one."""

    def seconds(self, kind: Kind, evaluations: int) -> float:
        return 1.0 + 0.0 * (kind.area + evaluations)


@pytest.fixture(scope="module")
def model(tiny_package: Path) -> Model:
    return open_model(tiny_package, "tiny")


@pytest.fixture(scope="module")
def generator(model: Model) -> Generator:
    return Generator(model, OnnxRuntimeCpu(model.package), costs=Free())


def start(generator: Generator, body: dict[str, Any]) -> Sample:
    model = generator.model
    complete = {"width": 64, "height": 64, **body}
    return generator.start(model.plan(model.read(complete)))


def run(
    generator: Generator, arrivals: Sequence[tuple[int, dict[str, Any]]]
) -> tuple[dict[int, np.ndarray], list[tuple[int, ...]]]:
    """Let bodies in at the given turns. Final latents by seed, and who finished a step when."""
    waiting = sorted(arrivals, key=lambda arrival: arrival[0])
    latents: dict[int, np.ndarray] = {}
    turns: list[tuple[int, ...]] = []

    def admit(free: int) -> list[Sample]:
        due = []
        while waiting and len(due) < free and (waiting[0][0] <= len(turns) or not turns):
            due.append(start(generator, waiting.pop(0)[1]))
        return due

    for events in generator.turns(admit):
        turns.append(tuple(event.sample.plan.request.seed for event in events))
        for event in events:
            if event.finished:
                latents[event.sample.plan.request.seed] = generator.latents(event.sample)
    return latents, turns


def test_a_sample_has_the_same_bits_alone_and_in_company(generator: Generator) -> None:
    alone = {body["seed"]: run(generator, [(0, body)])[0][body["seed"]] for body in BODIES}
    together, turns = run(generator, list(enumerate(BODIES)))
    assert max(map(len, turns)) >= 3, "nobody shared a call"
    for seed, latents in alone.items():
        np.testing.assert_array_equal(together[seed], latents, err_msg=f"seed {seed}")


def test_every_step_is_told_once_and_in_order(generator: Generator) -> None:
    for body in BODIES:
        plan = start(generator, body).plan
        steps = [event.step for event in generator.steps(plan)]
        assert steps == list(range(1, body["steps"] + 1))


def test_canceled_sample_is_gone_before_the_next_step(generator: Generator) -> None:
    bodies = [BODIES[0], BODIES[2]]
    expected = run(generator, [(0, bodies[1])])[0][3]
    waiting = [start(generator, body) for body in bodies]
    first = waiting[0]
    seen: list[tuple[int, int]] = []
    latents = None
    for events in generator.turns(lambda _: [waiting.pop() for _ in list(waiting)]):
        for event in events:
            seen.append((event.sample.plan.request.seed, event.step))
            if event.finished:
                latents = generator.latents(event.sample)
        first.canceled = True
    assert [step for seed, step in seen if seed == 1] == [1]
    np.testing.assert_array_equal(latents, expected)


def test_leaving_the_loop_early_frees_every_slot(model: Model) -> None:
    class Counting(HostDenoiser):
        """Counts what is held."""

        held = 0

        def admit(self, *arguments: Any) -> int:
            self.held += 1
            return super().admit(*arguments)

        def release(self, slot: int) -> None:
            self.held -= 1
            super().release(slot)

    backend = OnnxRuntimeCpu(model.package)
    denoiser = Counting(backend.open("denoiser"))
    generator = Generator(model, backend)
    donor = start(generator, BODIES[0])
    waiting = [Sample(generator.prepare(donor.plan), denoiser, ThreadPoolExecutor(1))]
    loras = LoraSwitch(generator.effective_weights, "denoiser", denoiser)

    def arrivals(_free: int) -> list[Sample]:
        return [waiting.pop()] if waiting else []

    loop = denoise(denoiser, arrivals, Schedule(BatchLimits(4, 8)), loras, Pace())
    events: tuple[StepEvent, ...] = next(loop)
    assert events[0].step == 1
    assert denoiser.held == 1
    loop.close()
    assert denoiser.held == 0

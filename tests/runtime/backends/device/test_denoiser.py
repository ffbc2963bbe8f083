"""The denoiser's state on a fake device, and what its caller waits for."""

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from runtime.backends.protocol import OnDevice
from runtime.draw.denoise import Sample
from runtime.draw.generate import Generator
from runtime.plan.model import Model, open_model
from tests.fakes.machine import Machine, streams_used
from tests.places import ENGINES
from tests.runtime.package.targets import Made, add_target


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The committed demo model, in a folder of the test's own."""
    ignored = shutil.ignore_patterns("targets")
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=ignored)
    return open_model(tmp_path, "demo")


def started(generator: Generator, steps: int) -> Sample:
    body = {"prompt": "", "seed": 5, "width": 64, "height": 64, "steps": steps}
    return generator.start(generator.model.plan(generator.model.read(body)))


def turns(generator: Generator, sample: Sample) -> Iterator[object]:
    """Its steps, drawn alone."""
    return generator.turns(lambda _: [] if sample.row else [sample])


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def generator(machine: Machine, model: Model) -> Generator:
    """With a graph for the shape that samples here have."""
    target = add_target(model.package.path, Made(sizes=((64, 64),)))
    made = machine.generator(model, target)
    for _ in turns(made, started(made, 2)):
        pass
    return made


def test_the_host_runs_one_step_ahead_of_the_device(machine: Machine, generator: Generator) -> None:
    drawing = turns(generator, started(generator, 4))
    [(handle, stream)] = streams_used(machine.cuda, lambda: next(drawing)).items()
    assert stream.waiting
    done: list[int] = []
    for step in range(1, 4):
        # Behind the step: what is done of these was waited for.
        machine.cuda.enqueue(handle, lambda step=step: done.append(step))
        next(drawing)
        assert done == list(range(1, step)), f"step {step + 1} was enqueued"


def test_conditioning_is_gathered_once_while_the_same_samples_share_a_call(
    machine: Machine, generator: Generator
) -> None:
    drawing = turns(generator, started(generator, 4))
    [stream] = streams_used(machine.cuda, lambda: next(drawing)).values()
    counts = [stream.enqueued, *(stream.enqueued for _ in drawing)]
    second, third, fourth = (after - before for before, after in pairwise(counts))
    assert second == third == fourth
    other = started(generator, 1)
    before = stream.enqueued
    next(turns(generator, other))
    assert stream.enqueued - before > second


def test_a_model_that_is_given_up_leaves_nothing_on_the_device(generator: Generator) -> None:
    assert isinstance(generator.backend, OnDevice)
    drawing = turns(generator, started(generator, 4))
    next(drawing)
    generator.close()
    whole = {"free", "total"}
    used = {use: n for use, n in generator.backend.device_memory().items() if use not in whole}
    assert {use: n for use, n in used.items() if n} == {}

"""The denoiser's state on a fake device, and what its caller waits for."""

import shutil
from pathlib import Path

import pytest

from runtime.denoise import Sample
from runtime.generate import Generator
from runtime.model import Model, open_model
from tests.runtime.imagined_machine import Machine, streams_used
from tests.runtime.targets import Made, add_target

ENGINES = Path(__file__).parents[4] / "engines"


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The committed demo model, in a folder of the test's own."""
    ignored = shutil.ignore_patterns("targets")
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=ignored)
    return open_model(tmp_path, "demo")


def started(generator: Generator, steps: int) -> Sample:
    body = {"prompt": "", "seed": 5, "width": 64, "height": 64, "steps": steps}
    return generator.start(generator.model.plan(generator.model.read(body)))


def test_the_host_runs_one_step_ahead_of_the_device(model: Model) -> None:
    machine = Machine()
    target = add_target(model.package.path, Made(sizes=((64, 64),)))
    generator = machine.generator(model, target)
    warm = started(generator, 2)
    for _ in generator.turns(lambda _: [] if warm.row else [warm]):
        pass
    sample = started(generator, 4)
    turns = generator.turns(lambda _: [] if sample.row else [sample])
    [(handle, stream)] = streams_used(machine.cuda, lambda: next(turns)).items()
    assert stream.waiting
    done: list[int] = []
    for step in range(1, 4):
        # Behind the step: what is done of these was waited for.
        machine.cuda.enqueue(handle, lambda step=step: done.append(step))
        next(turns)
        assert done == list(range(1, step)), f"step {step + 1} was enqueued"

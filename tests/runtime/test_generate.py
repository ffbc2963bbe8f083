"""What a start makes ready for the first requests."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from runtime.generate import Generator
from runtime.model import Model, open_model
from tests.runtime.imagined_machine import Machine
from tests.runtime.targets import Made, add_target

ENGINES = Path(__file__).parents[2] / "engines"
SIZES = ((64, 64), (96, 64))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The committed demo model, with its LoRA, in a folder of the test's own."""
    ignored = shutil.ignore_patterns("targets")
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=ignored)
    return open_model(tmp_path, "demo")


def draw(generator: Generator, **body: Any) -> None:
    plan = generator.model.plan(generator.model.read({"prompt": "", "seed": 5, **body}))
    assert [event.step for event in generator.steps(plan)] == list(range(1, plan.steps + 1))


def test_no_first_request_waits_for_a_capture(model: Model) -> None:
    machine = Machine()
    generator = machine.generator(model, add_target(model.package.path, Made(sizes=SIZES)))
    generator.warm_up()
    contexts = [len(engine.contexts) for engine in machine.engines]
    for width, height in SIZES:
        for scale in (1, 7):
            before = machine.cuda.launches
            draw(generator, width=width, height=height, cfg_scale=scale, steps=2)
            assert machine.cuda.launches - before == 2, (width, height, scale)
    assert [len(engine.contexts) for engine in machine.engines] == contexts


def test_what_no_engine_takes_is_passed_over_with_a_reason(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    made = Made(sizes=SIZES, evaluations=(1,))
    machine = Machine()
    generator = machine.generator(model, add_target(model.package.path, made))
    generator.warm_up()
    assert "denoiser: no engine takes" in caplog.text
    assert "evaluations 2" in caplog.text
    before = machine.cuda.launches
    draw(generator, width=96, height=64, cfg_scale=1, steps=2)
    assert machine.cuda.launches - before == 2

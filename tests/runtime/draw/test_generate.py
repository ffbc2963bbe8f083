"""The warm-up at the start, for the first requests."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine_build.lora.graphs import prepare
from runtime.backends.device.cuda import Cuda, DeviceMemory
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu, open_session
from runtime.draw.decode_room import decode_room
from runtime.draw.demand import Demand
from runtime.draw.generate import Generator
from runtime.errors import BackendError, PackageError
from runtime.package.adaptable import graphs_folder
from runtime.plan.model import Model, open_model
from runtime.wire.options import DrawOptions
from tests.fakes.machine import Machine
from tests.places import ENGINES
from tests.runtime.package.targets import Made, add_target

SIZES = ((64, 64), (96, 64))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The committed demo model, with its LoRA, in a folder of the test's own."""
    ignored = shutil.ignore_patterns("targets")
    shutil.copytree(ENGINES / "demo", tmp_path / "demo", ignore=ignored)
    return open_model(tmp_path, "demo")


def draw(generator: Generator, **body: Any) -> None:
    """A picture in full: a preview of each step, and the finished one."""
    plan = generator.model.plan(generator.model.read({"prompt": "", "seed": 5, **body}))
    size = plan.request.width, plan.request.height
    steps = []
    for event in generator.steps(plan):
        steps.append(event.step)
        generator.previewer.jpeg(generator.predicted(event.sample), *size)
        if event.finished:
            generator.decode(generator.latents(event.sample))
    assert steps == list(range(1, plan.steps + 1))


def test_no_first_request_waits_for_a_capture(model: Model) -> None:
    machine = Machine()
    generator = machine.generator(model, add_target(model.package.path, Made(sizes=SIZES)))
    generator.warm_up()
    contexts = [len(engine.contexts) for engine in machine.engines]
    for width, height in SIZES:
        for scale in (1, 7):
            before = machine.cuda.launches
            draw(generator, width=width, height=height, cfg_scale=scale, steps=2)
            # Two steps with their previews, and the picture.
            assert machine.cuda.launches - before == 5, (width, height, scale)
    assert [len(engine.contexts) for engine in machine.engines] == contexts


def test_pictures_that_nobody_asked_for_are_no_demand(model: Model) -> None:
    machine = Machine()
    generator = machine.generator(model, add_target(model.package.path, Made(sizes=SIZES)))
    generator.warm_up()
    assert (generator.pace.calls, generator.pace.starts, generator.pace.idle_seconds) == (0, 0, 0)
    assert generator.schedule.demand == Demand()
    draw(generator, width=96, height=64, steps=2)
    assert (generator.pace.calls, generator.pace.starts) == (1, 1)
    assert generator.schedule.demand.jobs == 1


def test_no_first_lora_waits_for_its_kernels(model: Model) -> None:
    machine = Machine()
    generator = machine.generator(model, add_target(model.package.path, Made(sizes=SIZES)))
    generator.warm_up()
    compiled = machine.cuda.modules
    assert compiled
    contexts = [len(engine.contexts) for engine in machine.engines]
    width, height = SIZES[0]
    loras = [{"id": model.loras()[0].id, "weight": 0.5}]
    draw(generator, width=width, height=height, steps=2, loras=loras)
    assert machine.cuda.modules == compiled
    assert [len(engine.contexts) for engine in machine.engines] == contexts


def test_a_lora_on_the_cpu_is_left_for_later_and_then_is_warm(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def open_noted(graph: Path, *arguments: Any) -> Any:
        if graph.is_relative_to(graphs_folder(model.package)):
            opened.append(graph)
        return open_session(graph, *arguments)

    monkeypatch.setattr("runtime.backends.onnxruntime.cpu.open_session", open_noted)
    generator = Generator(model, OnnxRuntimeCpu(model.package))
    generator.warm_up()
    assert (len(opened), generator.cold) == (0, True)
    generator.warm_up_loras()
    assert (len(opened), generator.cold) == (1, False)
    assert (generator.pace.calls, generator.schedule.demand) == (0, Demand())
    loras = [{"id": model.loras()[0].id, "weight": 0.5}]
    draw(generator, width=64, height=64, steps=2, loras=loras)
    draw(generator, width=64, height=64, steps=2)
    assert len(opened) == 1


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
    draw(generator, width=96, height=64, cfg_scale=1, steps=1)
    # A step with its preview, and the picture.
    assert machine.cuda.launches - before == 3


def test_a_damaged_lora_costs_those_who_ask_for_it_and_nobody_else(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    [offer] = model.loras()
    (factors,) = (model.package.path / "loras" / offer.id).glob("*.safetensors")
    content = bytearray(factors.read_bytes())
    content[-1] ^= 1
    factors.write_bytes(content)
    generator = Generator(model, OnnxRuntimeCpu(model.package))
    generator.warm_up()
    assert f"not warmed up: {factors}" in caplog.text
    draw(generator, width=64, height=64, steps=2)
    with pytest.raises(PackageError, match=factors.name):
        draw(generator, loras=[{"id": offer.id, "weight": 1}], steps=2)


def test_a_lora_that_lacks_memory_at_the_start_is_drawn_once_there_is_some(
    model: Model, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    machine = Machine()
    generator = machine.generator(model, add_target(model.package.path, Made(sizes=SIZES)))
    allocate = Cuda.allocate

    def refuse(self: Cuda, size_bytes: int, use: str) -> DeviceMemory:
        if use.startswith("LoRA"):
            raise BackendError(f"the GPU's memory does not hold {use}")
        return allocate(self, size_bytes, use)

    with monkeypatch.context() as patch:
        patch.setattr(Cuda, "allocate", refuse)
        generator.warm_up()
        assert "not warmed up: the GPU's memory does not hold LoRA" in caplog.text
        draw(generator, width=64, height=64, steps=2)
    draw(generator, width=64, height=64, steps=2, loras=[{"id": model.loras()[0].id, "weight": 1}])


def test_without_adaptable_graphs_pictures_are_drawn_and_loras_named_with_the_remedy(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a package whose LoRAs were added by a version that wrote no such graphs."""
    caplog.set_level(logging.WARNING)
    shutil.rmtree(graphs_folder(model.package))
    body = {"loras": [{"id": model.loras()[0].id, "weight": 1}], "width": 64, "height": 64}
    remedy = "engine-build lora prepare --model demo"
    generator = Generator(model, OnnxRuntimeCpu(model.package))
    generator.warm_up()
    assert "not warmed up: " in caplog.text
    assert remedy in caplog.text
    draw(generator, width=64, height=64, steps=1)
    with pytest.raises(PackageError, match=remedy):
        generator.start(model.plan(model.read({"prompt": "", **body})))
    prepare(model.package)
    draw(generator, **body, steps=1)


@pytest.mark.parametrize(("placed", "tiles"), [(True, 1), (False, 0)])
def test_pictures_are_decoded_in_tiles_where_the_room_of_the_vae_is_told(
    model: Model, *, placed: bool, tiles: int
) -> None:
    room = decode_room(None, model.package.manifest) if placed else None
    backend = OnnxRuntimeCpu(model.package)
    generator = Generator(model, backend, DrawOptions(vae_tile=128), room=room)
    draw(generator, width=160, height=128, steps=1)
    assert len(generator.tilings) == tiles
    request = model.read({"prompt": "", "width": 160, "height": 128})
    assert [generator.tiled(request)] == (generator.tilings or [""])

"""Text encoders that are put aside, or on the CPU, beside the CUDA provider's engines on fakes."""

import numpy as np
import pytest

from runtime.backends.engine_files import device_bytes
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.placing import TextPlace, is_text
from runtime.draw.generate import Generator
from runtime.errors import BackendError
from runtime.package.target import Target
from runtime.plan.call_room import call_room
from runtime.plan.model import Model
from runtime.wire.options import DrawOptions
from tests.fakes.cuda import FakeCuda, FakeError, FakeProperties
from tests.fakes.provider import BODY, Machine, drawn
from tests.runtime.package.targets import Made, add_target

FORGETTING = DrawOptions(conditioning_bytes=0)


def generator_at(machine: Machine, model: Model, target: Target, place: TextPlace) -> Generator:
    return Generator(model, machine.backend(model, target, place), FORGETTING)


def text_bytes(model: Model, target: Target) -> int:
    sizes = device_bytes(target, model.package.manifest)
    return sum(size for role, size in sizes.items() if is_text(role))


@pytest.mark.parametrize("place", ["aside", "cpu"])
def test_pictures_are_those_of_the_cpu_also_with_loras(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch, place: TextPlace
) -> None:
    """`lora3` is on a text encoder; twice, since encoders are opened anew for the second one."""
    reference = Generator(model, OnnxRuntimeCpu(model.package, threads=1))
    touching = {"loras": [{"id": "lora3", "weight": 1.0}]}
    generator = generator_at(Machine(monkeypatch), model, target, place)
    for body in ({}, touching, touching, {}):
        ours, theirs = drawn(generator, **body), drawn(reference, **body)
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), body


def test_what_is_put_aside_leaves_nothing_on_the_device(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do streams and pinned memory grow with the prompts."""
    kept, machine = Machine(monkeypatch), Machine(monkeypatch)
    keeping = generator_at(kept, model, target, "keep")
    generator = generator_at(machine, model, target, "aside")
    for each in (keeping, generator):
        for seed in range(4):
            drawn(each, seed=seed)
    taken, streams, pinned = (
        machine.cuda.allocated_bytes,
        len(machine.cuda.streams),
        len(machine.cuda._pinned),
    )
    account = generator.backend.device_memory()["weights"]
    drawn(generator, prompt="a green square")
    assert machine.cuda.allocated_bytes == taken
    assert (len(machine.cuda.streams), len(machine.cuda._pinned)) == (streams, pinned)
    assert generator.backend.device_memory()["weights"] == account
    assert kept.cuda.allocated_bytes - taken >= text_bytes(model, target)


def test_on_the_cpu_they_need_no_room_on_the_device(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sum(device_bytes(target, model.package.manifest).values())
    room = FakeProperties(totalGlobalMem=needed + 2**23)
    full = Machine(monkeypatch, FakeCuda((room,)))
    drawn(generator_at(full, model, target, "cpu"))
    assert full.cuda.allocated_bytes <= room.totalGlobalMem - text_bytes(model, target)


def test_an_opening_without_room_is_one_clear_error_and_no_lost_device(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    generator = generator_at(machine, model, target, "aside")
    expected = drawn(generator)
    taken = machine.cuda.allocated_bytes
    _, _, total = machine.cuda.cudaMemGetInfo()
    with monkeypatch.context() as patch:
        patch.setattr(machine.cuda, "cudaMemGetInfo", lambda: (FakeError.cudaSuccess, 0, total))
        with pytest.raises(BackendError, match=r"text_encoder .* --text-encoders cpu") as refused:
            drawn(generator)
        assert "0.00 of" in str(refused.value)
    assert machine.cuda.allocated_bytes == taken
    assert (drawn(generator) == expected).all()


def test_memory_that_goes_during_an_opening_is_given_back(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account saw room, and another program took it before the weights were there."""
    machine = Machine(monkeypatch)
    generator = generator_at(machine, model, target, "aside")
    expected = drawn(generator)
    taken, streams = machine.cuda.allocated_bytes, len(machine.cuda.streams)
    with monkeypatch.context() as patch:
        short = (FakeError.cudaErrorMemoryAllocation, 0)
        patch.setattr(machine.cuda, "malloc", lambda _size: short)
        with pytest.raises(BackendError, match=r"cannot open it: .*allocate memory"):
            drawn(generator)
    assert (machine.cuda.allocated_bytes, len(machine.cuda.streams)) == (taken, streams)
    assert (drawn(generator) == expected).all()


def test_a_call_that_lacks_memory_is_made_in_halves_and_the_device_stays(
    model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = Made(backend="onnxruntime-cuda", sizes=((64, 64),), samples=2)
    target = add_target(model.package.path, made)
    machine = Machine(monkeypatch)
    backend = machine.backend(model, target)
    needs = call_room(target, model.package.manifest)
    generator = Generator(model, backend, FORGETTING, needs=needs)
    expected = [drawn(generator, seed=seed) for seed in (1, 2)]
    arena = 77_777
    monkeypatch.setattr("tests.fakes.onnxruntime.ARENA", arena)
    malloc, short = machine.cuda.malloc, [(FakeError.cudaErrorMemoryAllocation, 0)]

    def lacking(size: int) -> tuple[FakeError, int]:
        return short.pop() if size == arena and short else malloc(size)

    plans = [model.plan_of({**BODY, "seed": seed}) for seed in (1, 2)]
    waiting = [generator.start(plan) for plan in plans]
    monkeypatch.setattr(machine.cuda, "malloc", lacking)
    found: dict[int, np.ndarray] = {}
    for events in generator.turns(lambda free: [waiting.pop(0) for _ in waiting[:free]]):
        for event in events:
            seed = event.sample.plan.request.seed
            found[seed] = generator.latents(event.sample)
    assert not short
    assert "denoiser: calls take less than" in caplog.text
    assert "Failed to allocate memory for requested buffer" in caplog.text
    assert (found[1] == expected[0]).all()
    assert (found[2] == expected[1]).all()

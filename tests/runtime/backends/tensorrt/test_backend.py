"""The demo model through TensorRT's code on fakes: the same pictures as by ONNX Runtime.

The fakes compute the real graphs, lazily: what is not waited for, not copied, or captured too early
shows as another picture.
"""

import gc
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends.device import calls
from runtime.backends.device.cuda import Cuda, DeviceMemory
from runtime.backends.devices import find_devices
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.protocol import SPARE, OnDevice, Started
from runtime.backends.tensorrt import refit
from runtime.draw.denoise import Sample
from runtime.draw.generate import Generator
from runtime.errors import BackendError, DeviceError, PackageError, RequestError
from runtime.package import engine_record
from runtime.package.backend_name import BackendName
from runtime.package.file_record import FileRecord, file_fault
from runtime.package.hashes import KnownHashes
from runtime.package.target import Target
from runtime.package.tensors import map_tensors
from runtime.plan.model import Model, open_model
from tests.fakes.cuda import FakeCuda, FakeError, FakeProperties
from tests.fakes.machine import Machine, streams_used
from tests.fakes.tensorrt import (
    FakeContext,
    FakeEngine,
    FakeRuntime,
    FakeSpecialization,
    FakeWeights,
)
from tests.runtime.package.targets import Made, add_target
from tests.tiny.embedding_files import add_word, bodies_with_words

SIZE = {"width": 64, "height": 64, "steps": 3}
SMALL = Made(sizes=((64, 64),))
BATCHES = Made(sizes=((64, 64),), samples=3)


@pytest.fixture(scope="module")
def engines(lora_engines: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engines folder of its own, with the committed demo model, LoRAs, and no target yet."""
    folder = tmp_path_factory.mktemp("engines")
    shutil.copytree(lora_engines / "demo", folder / "demo")
    return folder


@pytest.fixture(scope="module")
def model(engines: Path) -> Model:
    return open_model(engines, "demo")


@pytest.fixture(scope="module")
def reference(model: Model) -> Generator:
    """The same model by ONNX Runtime."""
    return Generator(model, OnnxRuntimeCpu(model.package, threads=1))


@pytest.fixture(scope="module")
def targets(model: Model) -> Callable[[Made], Target]:
    """Targets of the model, each written once."""
    made: dict[str, Target] = {}

    def find(wanted: Made) -> Target:
        key = repr(wanted)
        if key not in made:
            made[key] = add_target(model.package.path, wanted)
        return made[key]

    return find


def drawn(generator: Generator, **body: Any) -> np.ndarray:
    """The latents of a picture that is drawn alone."""
    request = generator.model.read({"prompt": "a red heart", "seed": 5, **SIZE, **body})
    *_, last = (
        generator.latents(event.sample) for event in generator.steps(generator.model.plan(request))
    )
    return last


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"sampler": "euler_a"},
        {"sampler": "dpm++_2m", "steps": 5},
        {"cfg_scale": 1.0},
        {"guidance_interval": [0.0, 0.5]},
        {"guidance_rescale": 0.7},
        {"prompt": "a green car, " * 12},
    ],
    ids=str,
)
def test_a_picture_is_that_of_onnx_runtime(
    body: dict[str, Any],
    model: Model,
    reference: Generator,
    targets: Callable[[Made], Target],
) -> None:
    generator = Machine().generator(model, targets(SMALL))
    expected = drawn(reference, **body)
    found = drawn(generator, **body)
    assert close(found, expected)
    pixels, theirs = generator.decode(found), reference.decode(expected)
    assert np.abs(pixels.astype(int) - theirs).max() <= 1


def test_embeddings_are_those_of_the_cpu_and_leave_nothing_behind(
    model: Model, reference: Generator, targets: Callable[[Made], Target]
) -> None:
    bodies = bodies_with_words(model.package, lora="lora3")
    generator = Machine().generator(model, targets(SMALL))
    found = [drawn(generator, **body) for body in bodies]
    for body, ours in zip(bodies, found, strict=True):
        assert close(ours, drawn(reference, **body)), body
    assert close(found[0], found[-1])
    assert all(np.abs(found[0] - other).max() > 0.01 for other in found[1:-1])


def test_a_target_of_fixed_weights_takes_no_embedding(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    add_word(model.package, "tar", 1)
    generator = Machine().generator(model, targets(Made(sizes=((64, 64),), fixed_weights=True)))
    with pytest.raises(RequestError, match=r"names an embedding: the target .* fixed weights"):
        drawn(generator, prompt="a heart of tar")


def test_samples_that_come_and_go_are_each_as_alone(
    model: Model, reference: Generator, targets: Callable[[Made], Target]
) -> None:
    generator = Machine().generator(model, targets(BATCHES))
    bodies = [
        {"seed": seed, "steps": 2 + seed, "cfg_scale": 1.0 + seed % 2 * 3} for seed in range(5)
    ]
    waiting = [
        generator.start(model.plan(model.read({"prompt": "a red heart", **SIZE, **body})))
        for body in bodies
    ]
    order = list(waiting)
    found: dict[int, np.ndarray] = {}
    previews: dict[int, list[Callable[[], np.ndarray]]] = {seed: [] for seed in range(5)}

    def arrivals(free: int) -> list[Sample]:
        # One at a time, so that they are at different steps.
        return [waiting.pop(0)] if free and waiting else []

    for events in generator.turns(arrivals):
        for event in events:
            seed = order.index(event.sample)
            previews[seed].append(generator.reading_predicted(event.sample))
            if event.finished:
                found[seed] = generator.latents(event.sample)
    for seed, body in enumerate(bodies):
        assert close(found[seed], drawn(reference, **body)), seed
        # Read long after the steps that they show.
        shown = [read() for read in previews[seed]]
        assert len(shown) == body["steps"]
        assert all(np.isfinite(each).all() for each in shown)
        assert not any(np.array_equal(a, b) for a, b in pairwise(shown))


def test_a_graph_is_captured_once_for_a_shape_and_launched_from_then_on(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    drawn(generator, steps=4)
    contexts = [len(engine.contexts) for engine in machine.engines]
    launched = machine.cuda.launches
    drawn(generator, steps=4, seed=9)
    assert machine.cuda.launches - launched == 4
    assert [len(engine.contexts) for engine in machine.engines] == contexts


def test_steps_and_text_go_first_each_engine_on_a_stream_of_its_own(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    latents = drawn(generator)
    plan = model.plan(model.read({"prompt": "a text that is new", **SIZE}))
    urgent = streams_used(machine.cuda, lambda: generator.start(plan))
    preview = streams_used(machine.cuda, lambda: generator.previewer.jpeg(latents, 64, 64))
    picture = streams_used(machine.cuda, lambda: generator.decode(latents))
    assert (len(urgent), len(preview), len(picture)) == (3, 1, 1)
    every = urgent | preview | picture
    assert len(every) == len(model.package.manifest.roles)
    assert {stream.flags for stream in every.values()} == {FakeCuda.cudaStreamNonBlocking}
    _, least, greatest = machine.cuda.cudaDeviceGetStreamPriorityRange()
    assert {stream.priority for stream in urgent.values()} == {greatest}
    assert {stream.priority for stream in (preview | picture).values()} == {least}


def test_a_step_does_not_wait_for_a_preview(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    latents = drawn(generator)
    [preview] = streams_used(machine.cuda, lambda: generator.previewer.jpeg(latents, 64, 64))
    done: list[str] = []
    machine.cuda.enqueue(preview, lambda: done.append("a slow preview"))
    drawn(generator)
    assert done == []
    generator.previewer.jpeg(latents, 64, 64)
    assert done == ["a slow preview"]


def test_memory_does_not_grow_over_jobs(model: Model, targets: Callable[[Made], Target]) -> None:
    machine = Machine()
    generator = machine.generator(model, targets(BATCHES))
    sizes = []
    for seed in range(6):
        drawn(generator, seed=seed, steps=2)
        sizes.append(machine.cuda.allocated_bytes)
    assert len(set(sizes)) == 1


def test_memory_is_accounted(model: Model, targets: Callable[[Made], Target]) -> None:
    machine = Machine()
    backend = machine.backend(model, targets(SMALL))
    drawn(Generator(model, backend))
    memory = backend.device_memory()
    assert set(memory) == {"weights", "workspaces", "buffers", "samples", "free", "total"}
    used = sum(memory[use] for use in ("weights", "workspaces", "buffers", "samples"))
    assert memory["total"] - memory["free"] == used == machine.cuda.allocated_bytes


def test_a_size_that_no_engine_takes_is_refused_with_those_that_they_take(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    generator = Generator(model, Machine().backend(model, targets(SMALL)))
    with pytest.raises(BackendError) as refusal:
        drawn(generator, width=96)
    words = str(refusal.value)
    assert "denoiser: no engine takes" in words
    assert "width 96 pixels" in words
    assert "width 64 pixels" in words
    assert "engine-build compile" in words
    assert "\n" not in words
    assert not isinstance(refusal.value, DeviceError)
    drawn(generator)


def test_a_prompt_that_is_too_long_for_every_engine_is_refused(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    generator = Generator(model, Machine().backend(model, targets(SMALL)))
    with pytest.raises(BackendError, match=r"tokens \d+.* it takes .*tokens 32 to 64"):
        drawn(generator, prompt="a green car, " * 40)


def test_a_text_batch_that_is_too_large_is_read_in_pieces(
    model: Model, reference: Generator, targets: Callable[[Made], Target]
) -> None:
    made = Made(sizes=((64, 64),), texts=1)
    generator = Machine().generator(model, targets(made))
    long = "a green car, " * 12
    assert close(drawn(generator, prompt=long), drawn(reference, prompt=long))


def test_engines_that_do_not_fit_together_are_refused_before_they_are_opened(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    target = targets(SMALL)
    needed = sum(engine.content.size_bytes for engine in target.record.engines.values())
    machine = Machine(FakeCuda((FakeProperties(totalGlobalMem=needed - 1),)))
    with pytest.raises(BackendError, match=r"engines take some .* \(denoiser .* draw with --back"):
        machine.backend(model, target)
    assert machine.engines == []
    Machine(FakeCuda((FakeProperties(totalGlobalMem=needed),))).backend(model, target)


def test_buffers_that_do_not_fit_say_what_is_missing(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    large = Machine()
    large.generator(model, targets(SMALL))
    just_opened = FakeProperties(totalGlobalMem=large.cuda.allocated_bytes + 1000)
    generator = Machine(FakeCuda((just_opened,))).generator(model, targets(SMALL))
    with pytest.raises(BackendError, match=r"does not hold buffers: .* GB are free; end other"):
        drawn(generator)


def test_a_changed_engine_is_refused_by_its_file(engines: Path, tmp_path: Path) -> None:
    shutil.copytree(engines / "demo", tmp_path / "demo", ignore=shutil.ignore_patterns("targets"))
    model = open_model(tmp_path, "demo")
    target = add_target(model.package.path, SMALL)
    path = target.engine("vae_decoder")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(PackageError, match=r"vae_decoder\.engine: changed, .* and run: engine-"):
        Machine().backend(model, target).open("vae_decoder")


def test_files_are_checked_while_other_engines_open_each_of_them_once(
    model: Model, targets: Callable[[Made], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = targets(SMALL)
    slow = target.engine("denoiser")
    checked: list[str] = []
    begun, release = threading.Event(), threading.Event()

    def fault(path: Path, expected: FileRecord, remedy: str, hashes: KnownHashes) -> str | None:
        checked.append(path.stem)
        if path == slow:
            begun.set()
            release.wait()
        return file_fault(path, expected, remedy, hashes)

    monkeypatch.setattr(engine_record, "file_fault", fault)
    try:
        backend = Machine().backend(model, target)
        backend.open("vae_decoder")
        # Nobody has asked for this one yet.
        assert begun.wait(60)
    finally:
        release.set()
    backend.open_denoiser()
    for role in target.record.engines.keys() - {"denoiser", "vae_decoder"}:
        backend.open(role)
    assert sorted(checked) == sorted(target.record.engines)


def test_an_engine_that_the_vendor_refuses_is_told_in_its_words(
    model: Model, targets: Callable[[Made], Target], tmp_path: Path
) -> None:
    backend = Machine().backend(model, targets(SMALL))
    garbage = tmp_path / "vae_decoder.engine"
    garbage.write_bytes(b"not JSON")
    with pytest.raises(BackendError, match="cannot open it: the plan is none of mine"):
        backend._vendor.deserialize(garbage)


def test_a_failure_of_the_device_is_told_from_what_cannot_be_drawn(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    machine.cuda.failures["cudaStreamSynchronize"] = FakeError.cudaErrorIllegalAddress
    machine.cuda.failures["cudaEventSynchronize"] = FakeError.cudaErrorIllegalAddress
    with pytest.raises(DeviceError, match="cudaErrorIllegalAddress: the words for 700"):
        drawn(generator)


def test_where_a_graph_cannot_be_captured_engines_run_without(
    model: Model,
    reference: Generator,
    targets: Callable[[Made], Target],
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = Machine(FakeCuda(capturable=False))
    generator = machine.generator(model, targets(SMALL))
    assert close(drawn(generator, steps=5), drawn(reference, steps=5))
    assert isinstance(generator.backend, OnDevice)
    (told,) = [each for each in generator.backend.shortfalls if each.startswith("denoiser at ")]
    assert "width 64 pixels runs without a CUDA graph: " in told
    assert told in caplog.text
    tried = machine.cuda.captures
    drawn(generator, steps=5)
    assert machine.cuda.captures == tried
    assert machine.cuda.launches == 0


def test_a_capture_that_fails_once_is_tried_again(
    model: Model, reference: Generator, targets: Callable[[Made], Target]
) -> None:
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    machine.cuda.failures["cudaStreamEndCapture"] = FakeError.cudaErrorStreamCaptureUnsupported
    assert close(drawn(generator), drawn(reference))
    assert isinstance(generator.backend, OnDevice)
    assert list(generator.backend.shortfalls) == []
    launched = machine.cuda.launches
    drawn(generator)
    assert machine.cuda.launches - launched == SIZE["steps"]


def test_what_the_vendors_binding_raises_is_an_error_of_the_device(
    model: Model, targets: Callable[[Made], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Machine().generator(model, targets(SMALL))

    def infer_shapes(_: FakeContext) -> list[str]:
        raise RuntimeError("infer_shapes error code: -1")

    monkeypatch.setattr(FakeContext, "infer_shapes", infer_shapes)
    with pytest.raises(DeviceError, match=r"cannot take .*: infer_shapes error code: -1"):
        drawn(generator)


def test_a_shape_that_makes_room_gives_its_memory_back_at_once(
    model: Model, targets: Callable[[Made], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its context too, which has memory that no account of ours shows."""
    monkeypatch.setattr(calls, "MOST", 1)
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    assert isinstance(generator.backend, OnDevice)
    sizes: list[int] = []
    gc.disable()
    try:
        for scale in (1.0, 5.0, 1.0, 5.0):
            drawn(generator, cfg_scale=scale)
            sizes.append(generator.backend.device_memory()["buffers"])
            assert all(len(engine.contexts) <= 1 for engine in machine.engines)
    finally:
        gc.enable()
    assert sizes[2:] == sizes[:2]


def test_engines_run_beside_each_other_until_they_are_read(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    machine = Machine()
    backend = machine.backend(model, targets(SMALL))
    engines = [backend.open(role) for role in model.family.text_roles]
    ids, layer = np.arange(32)[np.newaxis], np.array([-2])
    expected = [engine.run({"input_ids": ids, "layer": layer}) for engine in engines]
    started: list[Started] = []

    def start_all() -> None:
        started.extend(engine.start({"input_ids": ids, "layer": layer}) for engine in engines)

    streams = streams_used(machine.cuda, start_all)
    assert [bool(stream.waiting) for stream in streams.values()] == [True, True]
    ids[:] = 0
    for read, outputs in zip(started, expected, strict=True):
        for name, array in read().items():
            np.testing.assert_array_equal(array, outputs[name])


def test_an_engine_that_is_closed_leaves_nothing_on_the_device(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    machine = Machine()
    backend = machine.backend(model, targets(SMALL))
    streams = len(machine.cuda.streams)
    opened = backend.open("vae_decoder")
    latents = np.zeros((1, 4, 8, 8), np.float32)
    for _ in range(2):
        opened.run({"latents": latents})
    [engine] = machine.engines
    gone = weakref.finalize(engine, lambda: None)
    machine.engines.clear()
    gc.disable()
    try:
        opened.close()
        del engine
        assert not gone.alive
    finally:
        gc.enable()
    assert machine.cuda.allocated_bytes == 0
    assert backend.device_memory().keys() == {"free", "total"}
    assert len(machine.cuda.streams) == streams


def test_an_engine_whose_workspace_does_not_fit_leaves_nothing_behind(
    model: Model, targets: Callable[[Made], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    backend = machine.backend(model, targets(SMALL))
    allocate = Cuda.allocate

    def refuse(self: Cuda, size_bytes: int, use: str) -> DeviceMemory:
        if use == "workspaces":
            raise BackendError("the GPU's memory does not hold workspaces")
        return allocate(self, size_bytes, use)

    monkeypatch.setattr(Cuda, "allocate", refuse)
    with pytest.raises(BackendError, match="does not hold workspaces"):
        backend.open("vae_decoder")
    assert backend.device_memory().keys() == {"free", "total"}
    assert not machine.cuda.streams


def test_a_shape_that_does_not_fit_leaves_nothing_behind(
    model: Model, targets: Callable[[Made], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    drawn(generator, cfg_scale=1.0)
    assert isinstance(generator.backend, OnDevice)
    before = generator.backend.device_memory()["buffers"]
    allocate, buffers = Cuda.allocate, count()

    def allocate_two(self: Cuda, size_bytes: int, use: str) -> DeviceMemory:
        # The call is tried once more, which finds no memory either.
        if use == "buffers" and next(buffers) >= 2:
            raise BackendError("the GPU's memory does not hold buffers")
        return allocate(self, size_bytes, use)

    monkeypatch.setattr(Cuda, "allocate", allocate_two)
    sample = generator.start(
        model.plan(model.read({"prompt": "a red heart", **SIZE, "cfg_scale": 5.0}))
    )
    with pytest.raises(BackendError, match="does not hold buffers"):
        for _ in generator.turns(lambda _: [sample]):
            pass
    assert generator.backend.device_memory()["buffers"] == before


def test_kernels_that_are_made_at_run_time_are_kept_beside_the_engine(
    model: Model, reference: Generator, targets: Callable[[Made], Target]
) -> None:
    target = targets(Made(backend="tensorrt-rtx", sizes=((64, 64),)))
    first, again = Machine(), Machine()
    generator = Generator(model, first.backend(model, target, rtx=True))
    assert close(drawn(generator), drawn(reference))
    kept = sorted(path.name for path in target.path.glob("*.kernels"))
    assert "denoiser.fp16.kernels" in kept
    assert caches(first) == {b""}
    drawn(Generator(model, again.backend(model, target, rtx=True)))
    assert caches(again) == {(target.path / "denoiser.fp16.kernels").read_bytes()}


def caches(machine: Machine) -> set[bytes]:
    """The content of the contexts' caches of kernels."""
    configs = [config for engine in machine.engines for config in engine.configs]
    return {config.cache.content for config in configs if config.cache is not None}


def test_no_kernel_is_a_stopgap_that_a_graph_would_keep(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    machine = Machine()
    target = targets(Made(backend="tensorrt-rtx", sizes=((64, 64),)))
    drawn(Generator(model, machine.backend(model, target, rtx=True)))
    configs = [config for engine in machine.engines for config in engine.configs]
    strategies = {config.dynamic_shapes_kernel_specialization_strategy for config in configs}
    assert strategies == {FakeSpecialization.EAGER}


def test_loras_come_and_go_and_leave_nothing_behind(
    model: Model, reference: Generator, targets: Callable[[Made], Target]
) -> None:
    packs = [offer.id for offer in model.loras()]
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    first = {"loras": [{"id": packs[0], "weight": 1.0}]}
    other = {"loras": [{"id": packs[-1], "weight": -0.5}]}
    base = drawn(generator)
    with_first = drawn(generator, **first)
    assert not close(with_first, base)
    assert close(with_first, drawn(reference, **first))
    assert close(drawn(generator, **other), drawn(reference, **other))
    np.testing.assert_array_equal(drawn(generator, **first), with_first)
    # ONNX Runtime rounds otherwise where matrices are inputs, as in the fake from now on.
    assert close(drawn(generator), base)
    drawn(generator, prompt="one whose conditioning is not kept")
    for engine in machine.engines:
        own = map_tensors(model.package.file(engine.record.weights or ""))
        for name, tensor in engine.weights.items():
            np.testing.assert_array_equal(tensor.values, own[name].values)
    assert sum(len(engine.weights) for engine in machine.engines) > 0


def test_fixed_weights_refuse_loras_before_any_work(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    target = targets(Made(sizes=((64, 64),), fixed_weights=True))
    generator = Machine().generator(model, target)
    with pytest.raises(RequestError, match="compiled with fixed weights"):
        drawn(generator, loras=[{"id": model.loras()[0].id, "weight": 1.0}])
    drawn(generator)


OPEN = """
import sys
from pathlib import Path
from runtime.backends.catalog import Choice, open_backend
from runtime.errors import BackendError
from runtime.plan.model import open_model
from runtime.package.target import read_target, target_directories

package = open_model(Path(sys.argv[1]), "demo").package
target = next(
    read_target(path) for path in target_directories(package.path) if path.name == sys.argv[2]
)
try:
    open_backend(package, Choice(target.record.identity.backend, target, None, ""))
except BackendError as error:
    print(error, "tensorrt_rtx" in sys.modules)
"""


@pytest.mark.skipif(find_devices().first is not None, reason="this machine has a GPU")
@pytest.mark.parametrize("backend", ["tensorrt-rtx", "onnxruntime-cuda"])
def test_without_a_gpu_the_real_libraries_are_not_touched_and_the_process_lives(
    backend: BackendName, engines: Path, targets: Callable[[Made], Target]
) -> None:
    target = targets(Made(backend=backend, sizes=((64, 128),)))
    command = [sys.executable, "-c", OPEN, str(engines), target.name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    [line] = done.stdout.splitlines()
    assert line.startswith("cudaGetDeviceCount: cudaError")
    assert line.endswith(" False")


def test_weights_are_written_in_rounds_and_nothing_stays_beside_the_engine(
    model: Model,
    reference: Generator,
    targets: Callable[[Made], Target],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refit, "ROUND_BYTES", 1)
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    drawn(generator)
    assert isinstance(generator.backend, OnDevice)
    before = machine.cuda.allocated_bytes
    first = {"loras": [{"id": model.loras()[0].id, "weight": 1.0}]}
    assert close(drawn(generator, **first), drawn(reference, **first))
    refits = [engine.refits for engine in machine.engines if engine.refits]
    assert max(map(len, refits)) > 1
    for rounds in refits:
        # No round reads again what an earlier one was given.
        assert sum(map(len, rounds)) == len(frozenset().union(*rounds))
    kept = generator.backend.device_memory()[SPARE]
    assert machine.cuda.allocated_bytes == before + kept


def test_what_the_vendor_has_fused_is_rewritten_together(
    model: Model,
    reference: Generator,
    targets: Callable[[Made], Target],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = {"loras": [{"id": model.loras()[0].id, "weight": 1.0}]}
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    # One at a time, so that what belongs together is in different rounds.
    monkeypatch.setattr(refit, "ROUND_BYTES", 1)
    for engine in machine.engines:
        names = engine.refittable_names
        engine.fused = [set(names[at : at + 3]) for at in range(0, len(names), 3)]
    assert close(drawn(generator, **first), drawn(reference, **first))
    assert close(drawn(generator), drawn(reference))


def test_weights_that_are_not_ours_to_rewrite_are_told_and_what_was_there_comes_back(
    model: Model, reference: Generator, targets: Callable[[Made], Target]
) -> None:
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    first = {"loras": [{"id": model.loras()[0].id, "weight": 1.0}]}
    for engine in machine.engines:
        engine.fused = [{*engine.refittable_names, ""}]
    with pytest.raises(BackendError, match=r"not the target's to replace \(without a name\)"):
        drawn(generator, **first)
    for engine in machine.engines:
        engine.fused = []
    assert close(drawn(generator), drawn(reference))
    assert close(drawn(generator, **first), drawn(reference, **first))


def test_nothing_that_was_handed_to_a_refitter_is_kept(
    model: Model, targets: Callable[[Made], Target]
) -> None:
    generator = Machine().generator(model, targets(SMALL))
    drawn(generator, loras=[{"id": model.loras()[0].id, "weight": 1.0}])
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is FakeWeights]


def test_after_weights_that_were_written_halfway_a_set_is_written_again(
    model: Model,
    reference: Generator,
    targets: Callable[[Made], Target],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refit, "ROUND_BYTES", 1)
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    first = {"loras": [{"id": model.loras()[0].id, "weight": 1.0}]}
    base = drawn(generator)
    allocate, rounds = Cuda.allocate, count()

    def allocate_once(self: Cuda, size_bytes: int, use: str) -> DeviceMemory:
        if use == "LoRA weights" and next(rounds) == 1:
            raise BackendError("the GPU's memory does not hold LoRA weights")
        return allocate(self, size_bytes, use)

    monkeypatch.setattr(Cuda, "allocate", allocate_once)
    with pytest.raises(BackendError, match="does not hold LoRA weights"):
        drawn(generator, **first)
    assert close(drawn(generator), base)
    assert close(drawn(generator, **first), drawn(reference, **first))


def test_weights_that_could_not_be_written_leave_no_memory_behind(
    model: Model, targets: Callable[[Made], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()
    generator = machine.generator(model, targets(SMALL))
    drawn(generator)
    before = machine.cuda.allocated_bytes
    allocate = Cuda.allocate

    def refuse(self: Cuda, size_bytes: int, use: str) -> DeviceMemory:
        if use == "LoRA factors":
            raise BackendError("the GPU's memory does not hold LoRA factors")
        return allocate(self, size_bytes, use)

    monkeypatch.setattr(Cuda, "allocate", refuse)
    with pytest.raises(BackendError, match="does not hold LoRA factors"):
        drawn(generator, loras=[{"id": model.loras()[0].id, "weight": 1.0}])
    assert machine.cuda.allocated_bytes == before


@pytest.mark.parametrize(
    ("maker", "name"),
    [(FakeRuntime, "deserialize_cuda_engine"), (FakeEngine, "create_execution_context")],
)
def test_copies_of_weights_make_room_for_what_the_vendor_makes(
    model: Model,
    targets: Callable[[Made], Target],
    monkeypatch: pytest.MonkeyPatch,
    maker: type,
    name: str,
) -> None:
    generator = Machine().generator(model, targets(SMALL))
    body = {"loras": [{"id": model.loras()[0].id, "weight": 1.0}]}
    expected = drawn(generator, **body)
    backend = generator.backend
    assert isinstance(backend, OnDevice)
    make = getattr(maker, name)

    def made_with_room(*arguments: Any, **named: Any) -> Any:
        return None if SPARE in backend.device_memory() else make(*arguments, **named)

    monkeypatch.setattr(maker, name, made_with_room)
    opened = backend.open("preview_decoder")
    opened.run({"latents": np.zeros((1, 4, 8, 8), np.float32)})
    assert SPARE not in backend.device_memory()
    np.testing.assert_array_equal(drawn(generator, **body), expected)


def test_a_plain_run_that_fails_behind_a_failed_capture_gets_a_context_anew(
    model: Model,
    reference: Generator,
    targets: Callable[[Made], Target],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(FakeCuda(capturable=False))
    generator = machine.generator(model, targets(SMALL))
    execute = FakeContext.execute_async_v3
    spoilt: list[FakeContext] = []

    def execute_once_spoilt(self: FakeContext, stream_handle: int) -> bool:
        """A context that was in a capture which failed does nothing more."""
        if machine.cuda.is_capturing(stream_handle):
            spoilt.append(self)
        return self not in spoilt and execute(self, stream_handle)

    monkeypatch.setattr(FakeContext, "execute_async_v3", execute_once_spoilt)
    for _ in range(2):
        assert close(drawn(generator), drawn(reference))
    assert isinstance(generator.backend, OnDevice)
    told = [each for each in generator.backend.shortfalls if "was opened again" in each]
    assert [each.partition(" ")[0] for each in told] == [
        "text_encoder",
        "text_encoder_2",
        "denoiser",
    ]

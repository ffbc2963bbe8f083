"""The demo model through the CUDA provider's code on fakes, and the fakes against the real library.

No CUDA is in it: what is shown is which buffers are bound, in which order, and whose weights act.
"""

import inspect
import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from runtime.backends.device.bases import KeptBases
from runtime.backends.device.cuda import Cuda, DeviceMemory
from runtime.backends.engine_files import device_bytes
from runtime.backends.low_rank import base_of
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.onnxruntime.cuda_provider import PROVIDER
from runtime.backends.protocol import SPARE
from runtime.draw.generate import Generator
from runtime.draw.lora.weights import EffectiveWeights
from runtime.errors import BackendError, PackageError
from runtime.package.target import Target
from runtime.package.tensors import Tensor
from runtime.plan.model import Model
from tests.fakes.cuda import FakeCuda, FakeError, FakeProperties
from tests.fakes.machine import streams_used
from tests.fakes.onnxruntime import (
    FakeIOBinding,
    FakeOutput,
    FakeSession,
)
from tests.fakes.provider import BODY, Machine, drawn
from tests.tiny.embedding_files import bodies_with_words


def test_pictures_are_those_of_the_cpu_and_loras_leave_nothing_behind(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [offer.id for offer in model.loras()]
    bodies: list[dict[str, object]] = [
        {},
        {"loras": [{"id": ids[0], "weight": 1.0}]},
        {"loras": [{"id": ids[-1], "weight": -0.5}]},
        {"loras": [{"id": ids[0], "weight": 1.0}]},
        {"cfg_scale": 1.0},
    ]
    reference = Generator(model, OnnxRuntimeCpu(model.package, threads=1))
    expected = [drawn(reference, **body) for body in bodies]
    generator = Generator(model, Machine(monkeypatch).backend(model, target))
    for body, theirs in zip(bodies, expected, strict=True):
        ours = drawn(generator, **body)
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), body
    assert generator.decode(ours).shape == (64, 64, 3)


def test_embeddings_are_those_of_the_cpu_and_leave_nothing_behind(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = bodies_with_words(model.package, lora="lora3")
    reference = Generator(model, OnnxRuntimeCpu(model.package, threads=1))
    generator = Generator(model, Machine(monkeypatch).backend(model, target))
    found = [drawn(generator, **body) for body in bodies]
    for body, ours in zip(bodies, found, strict=True):
        theirs = drawn(reference, **body)
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), body
    np.testing.assert_array_equal(found[0], found[-1])
    assert all(np.abs(found[0] - other).max() > 0.01 for other in found[1:-1])


def test_a_graph_is_captured_once_for_a_shape_and_stays_while_loras_change(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [offer.id for offer in model.loras()]
    machine = Machine(monkeypatch)
    generator = Generator(model, machine.backend(model, target))
    drawn(generator)
    captured, launched = machine.cuda.captures, machine.cuda.launches
    assert captured > 0
    drawn(generator, seed=9)
    assert machine.cuda.captures == captured
    assert machine.cuda.launches - launched >= BODY["steps"]
    every = {"loras": [{"id": each, "weight": 0.5} for each in ids]}
    first = {"loras": [{"id": ids[0], "weight": 1.0}]}
    for body in (every, first, every, {}):
        drawn(generator, **body)
    captured, taken = machine.cuda.captures, machine.cuda.allocated_bytes
    drawn(generator, **first)
    drawn(generator, loras=[{"id": ids[-1], "weight": 1.0}])
    drawn(generator)
    assert machine.cuda.captures == captured
    assert machine.cuda.allocated_bytes == taken


@pytest.mark.parametrize("room", [True, False], ids=["room", "no room"])
def test_a_change_of_loras_uploads_what_the_device_has_not(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch, *, room: bool
) -> None:
    backend = Machine(monkeypatch).backend(model, target)
    if not room:
        monkeypatch.setattr(KeptBases, "room", lambda *_: {})
    engine = backend.open("denoiser")
    effective = EffectiveWeights(model.package, 0, factored=True)
    ids = [offer.id for offer in model.loras()]
    uploaded = []
    for weight in (1.0, 0.5):
        body = {**BODY, "loras": [{"id": ids[0], "weight": weight}]}
        weights = effective.of(model.plan(model.read(body)).loras, "denoiser")
        before = backend.uploaded_bytes()
        engine.replace_weights(weights)
        uploaded.append(backend.uploaded_bytes() - before)
    factors = sum(each.size_bytes for each in weights.values())
    bases = sum(base_of(each).size_bytes for each in weights.values())
    first, later = (each - factors for each in uploaded)
    # Beside the factors: a row of 32 bytes for each product, and alignment.
    assert bases <= first <= bases + 64 * len(weights)
    assert later == (first - bases if room else first)
    assert (backend.device_memory().get(SPARE, 0) >= bases) is room


@pytest.mark.parametrize("what", ["runs", "opens"])
def test_copies_of_weights_make_room_for_a_session_that(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The arena of a session grows as it runs, and its weights take memory as it opens."""
    machine = Machine(monkeypatch)
    machine.provider.captures = False  # Every run is ONNX Runtime's own.
    backend = machine.backend(model, target)
    generator = Generator(model, backend)
    body = {"loras": [{"id": model.loras()[0].id, "weight": 1.0}]}
    expected = drawn(generator, **body)
    assert backend.device_memory()[SPARE] > 0
    taken = machine.cuda.allocated_bytes
    opened = backend.open("preview_decoder")
    weights = backend.device_memory()["weights"]
    lacking = 1 if what == "opens" else machine.cuda.allocated_bytes - taken
    full = FakeProperties(totalGlobalMem=machine.cuda.allocated_bytes - lacking)
    opened.close()
    monkeypatch.setattr(machine.cuda, "_devices", (full,))
    if what == "opens":
        opened = backend.open("preview_decoder")
        assert backend.device_memory()["weights"] == weights
    else:
        machine.provider.growing = 10**6
        monkeypatch.setattr("tests.fakes.onnxruntime.ARENA", 64)
        np.testing.assert_array_equal(drawn(generator, **body), expected)
    assert SPARE not in backend.device_memory()
    assert [each for each in backend.shortfalls if "upload weights of the package" in each]


def test_a_weight_that_is_no_input_is_refused_each_time(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Machine(monkeypatch).backend(model, target)
    engine = backend.open("denoiser")
    unknown = {"unknown": Tensor("F16", np.zeros((2, 2), np.float16))}
    for _ in range(2):
        with pytest.raises(BackendError, match="denoiser: unknown cannot be replaced"):
            engine.replace_weights(unknown)
    assert "LoRA weights" not in backend.device_memory()


def test_after_weights_that_could_not_be_written_a_set_is_written_again(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {"loras": [{"id": model.loras()[0].id, "weight": 1.0}]}
    expected = drawn(Generator(model, OnnxRuntimeCpu(model.package, threads=1)), **first)
    generator = Generator(model, Machine(monkeypatch).backend(model, target))
    base = drawn(generator)
    allocate, refusals = Cuda.allocate, count()

    def allocate_later(self: Cuda, size_bytes: int, use: str) -> DeviceMemory:
        if use == "LoRA factors" and next(refusals) == 0:
            raise BackendError("the GPU's memory does not hold LoRA factors")
        return allocate(self, size_bytes, use)

    monkeypatch.setattr(Cuda, "allocate", allocate_later)
    with pytest.raises(BackendError, match="does not hold LoRA factors"):
        drawn(generator, **first)
    found = drawn(generator, **first)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.abs(found - base).max() > 1e-2 * np.abs(base).max()


def test_where_the_provider_captures_no_graphs_it_runs_without_and_says_so(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = drawn(Generator(model, OnnxRuntimeCpu(model.package, threads=1)))
    machine = Machine(monkeypatch)
    machine.provider.captures = False
    backend = machine.backend(model, target)
    found = drawn(Generator(model, backend))
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert machine.cuda.captures == 0
    told = "denoiser runs without CUDA graphs: This session cannot use the graph capture feature"
    assert told in caplog.text
    assert list(backend.shortfalls).count(told) == 1


def test_convolutions_are_inputs_from_the_first_set_on_that_has_some(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    engine = machine.backend(model, target).open("denoiser")
    own = model.package.tensors("denoiser")
    matrix, convolution = (
        next(name for name, each in own.items() if each.values.ndim == axes) for axes in (2, 4)
    )

    def inputs(pair: tuple[bytes, ...]) -> tuple[bool, bool]:
        graphs = [onnx.load_model_from_string(content).graph for content in pair]
        names = {each.name for graph in graphs for each in graph.input}
        return matrix in names, convolution in names

    taken = []
    for names in ([matrix], [convolution], [matrix], [matrix, convolution]):
        engine.replace_weights({name: own[name] for name in names})
        taken.append(machine.cuda.allocated_bytes)
    # A step's graph, and its prelude's.
    pairs = list(zip(machine.models[::2], machine.models[1::2], strict=True))
    # The second pair's memory is given back before the third takes its own.
    replaced, sizes = own[convolution].size_bytes, [sum(map(len, pair)) for pair in pairs]
    assert taken[1] - taken[0] < sizes[-1] - sizes[1] + 2 * replaced
    assert [inputs(pair) for pair in pairs] == [
        (False, False),
        (True, False),
        (True, True),
    ]


def test_steps_and_text_go_first_each_engine_on_a_stream_of_its_own(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    generator = Generator(model, machine.backend(model, target))
    latents = drawn(generator)
    plan = model.plan(model.read({**BODY, "prompt": "a text that is new"}))
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


def test_memory_is_accounted(model: Model, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.provider.growing = 0  # What arenas take is not in the account.
    backend = machine.backend(model, target)
    generator = Generator(model, backend)
    drawn(generator)
    memory = backend.device_memory()
    assert set(memory) == {"weights", "buffers", "samples", "free", "total"}
    used = sum(memory[use] for use in ("weights", "buffers", "samples"))
    assert memory["total"] - memory["free"] == used == machine.cuda.allocated_bytes


def test_an_engine_that_is_closed_gives_its_memory_back(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    backend = machine.backend(model, target)
    engine = backend.open("text_encoder")
    record = model.package.manifest.roles["text_encoder"]
    name = next(each.initializer for each in record.parameters.values() if each.replaceable)
    engine.replace_weights({name: model.package.tensors("text_encoder")[name]})
    engine.run({"input_ids": np.arange(32)[np.newaxis], "layer": np.array([-2])})
    assert machine.cuda.allocated_bytes > 0
    engine.close()
    assert machine.cuda.allocated_bytes == 0
    assert set(backend.device_memory()) == {"free", "total"}


def test_weights_that_do_not_fit_together_are_refused_before_they_are_read(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = sum(device_bytes(target, model.package.manifest).values())
    small = FakeCuda((FakeProperties(totalGlobalMem=needed - 1),))
    with pytest.raises(BackendError, match=r"engines take some .* \(denoiser .* draw with --back"):
        Machine(monkeypatch, small).backend(model, target)
    large_enough = FakeCuda((FakeProperties(totalGlobalMem=needed),))
    Machine(monkeypatch, large_enough).backend(model, target)


def test_weights_that_were_left_in_place_are_counted_as_well(model: Model, target: Target) -> None:
    manifest = model.package.manifest
    left = {
        name: replace(role, weights=None, external_folder="/checkpoint")
        for name, role in manifest.roles.items()
    }
    sizes = device_bytes(target, replace(manifest, roles=left))
    assert sizes == device_bytes(target, manifest)
    owned = {name: manifest.files[role.weights or ""] for name, role in manifest.roles.items()}
    for role, size in sizes.items():
        header = 2**16
        assert 0 <= owned[role].size_bytes - (size - target.engine(role).stat().st_size) < header


def test_loras_that_need_more_than_there_is_are_refused_with_the_reason(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    generator = Generator(model, machine.backend(model, target))
    drawn(generator)
    _, _, total = machine.cuda.cudaMemGetInfo()
    monkeypatch.setattr(machine.cuda, "cudaMemGetInfo", lambda: (FakeError.cudaSuccess, 0, total))
    with pytest.raises(BackendError, match=r"the engines take some .* with LoRAs"):
        drawn(generator, loras=[{"id": model.loras()[0].id, "weight": 1}])


def test_an_engine_that_was_changed_is_refused_by_its_file(
    model: Model, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Target(shutil.copytree(target.path, tmp_path / target.name), target.record)
    path = copy.engine("vae_decoder")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    backend = Machine(monkeypatch).backend(model, copy)
    backend.open("preview_decoder")
    with pytest.raises(PackageError, match=r"vae_decoder\.onnx: changed, .* engine-build compile"):
        backend.open("vae_decoder")


def test_another_provider_than_the_one_that_was_asked_for_is_refused(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    machine.provider.took = "CPUExecutionProvider"
    backend = machine.backend(model, target)
    with pytest.raises(BackendError, match=f"took CPUExecutionProvider, .* asked for {PROVIDER}"):
        backend.open("vae_decoder")


def test_what_the_provider_itself_says_is_told(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "CUDA driver version is insufficient for CUDA runtime version"
    machine = Machine(monkeypatch)
    machine.provider.refusal = told
    backend = machine.backend(model, target)
    with pytest.raises(BackendError, match=rf"vae_decoder\.onnx: ONNX Runtime cannot .*{told}"):
        backend.open("vae_decoder")


def test_a_size_that_was_not_verified_is_refused(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator(model, Machine(monkeypatch).backend(model, target))
    with pytest.raises(BackendError, match=r"no engine takes .*width 96 pixels"):
        drawn(generator, width=96)


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (FakeIOBinding, onnxruntime.IOBinding),
        (FakeOutput, onnxruntime.OrtValue),
        (FakeSession, onnxruntime.InferenceSession),
    ],
)
def test_the_fakes_methods_are_the_real_ones(fake: type, real: type) -> None:
    for name, method in vars(fake).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            genuine = inspect.signature(getattr(real, name)).parameters
            assert list(inspect.signature(method).parameters) == list(genuine), name

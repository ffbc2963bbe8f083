"""The prelude's runs on fakes: one wherever the conditioning or the weights have changed."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from runtime.backends.device.cuda import Cuda
from runtime.backends.device.device import Device
from runtime.backends.device.graph import CaptureError, capture
from runtime.backends.device.staging import Uploads, reading
from runtime.backends.device.stream import Stream
from runtime.backends.onnxruntime import cuda_session
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.onnxruntime.cuda_call import OnnxCudaCall
from runtime.backends.onnxruntime.cuda_network import NetworkFiles, OnnxCudaNetwork
from runtime.backends.onnxruntime.cuda_provider import Source
from runtime.backends.protocol import Array, Denoiser, Engine, Row
from runtime.draw.denoise import Sample
from runtime.draw.generate import Generator
from runtime.errors import BackendError, DeviceError
from runtime.package.target import Target
from runtime.package.tensors import Tensor
from runtime.plan.model import Model
from runtime.plan.served import served_by
from tests.fakes.cuda import FakeError
from tests.fakes.provider import BODY, Machine
from tests.runtime.package.targets import Made, add_target

STEP = {
    "latents": np.ones((1, 4, 8, 8), np.float32),
    "timestep": np.array([500.0], np.float32),
    "coefficients": np.array([[1, 0, 1, 0, 1, 0.5, 0.5, 0, 0, 0, 0]], np.float32),
    "history": np.zeros((1, 3, 4, 8, 8), np.float32),
    "noise": np.zeros((1, 4, 8, 8), np.float32),
    "evaluation_sample": np.array([0]),
    "mix": np.ones((1, 1), np.float32),
    "guidance_rescale": np.zeros(1, np.float32),
    "positive_evaluation": np.array([0]),
}
"""One sample and one evaluation, without the conditioning."""


@pytest.fixture(scope="module")
def target(model: Model) -> Target:
    made = Made(backend="onnxruntime-cuda", sizes=((64, 64),), samples=2)
    return add_target(model.package.path, made)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def preludes(machine: Machine, target: Target) -> int:
    """The number of runs of the prelude so far."""
    path = target.prelude("denoiser")
    assert path is not None
    return machine.provider.ran.count(path.read_bytes())


def generator_of(machine: Machine, model: Model, target: Target) -> Generator:
    served = served_by(target, model.package.manifest)
    return Generator(model, machine.backend(model, target), served=served)


def started(generator: Generator, **body: object) -> Sample:
    return generator.start(generator.model.plan(generator.model.read({**BODY, **body})))


def turns(generator: Generator, samples: list[Sample]) -> Iterator[object]:
    """The steps of the samples that are in the list when a turn begins."""

    def arrivals(_free: int) -> Sequence[Sample]:
        given = list(samples)
        samples.clear()
        return given

    return generator.turns(arrivals)


def test_a_picture_of_three_steps_runs_the_prelude_once(
    machine: Machine, model: Model, target: Target
) -> None:
    generator = generator_of(machine, model, target)
    first = turns(generator, [started(generator)])
    next(first)
    before = preludes(machine, target)
    assert len(list(first)) == 2
    assert preludes(machine, target) == before
    for prompt in ("a green car", BODY["prompt"]):
        list(turns(generator, [started(generator, prompt=prompt)]))
        before += 1
        assert preludes(machine, target) == before


def test_a_sample_that_joins_and_one_that_stays_behind_are_conditioned(
    machine: Machine, model: Model, target: Target
) -> None:
    generator = generator_of(machine, model, target)
    together = [started(generator, steps=2), started(generator, steps=2, prompt="a green car")]
    for samples in (together, [started(generator, steps=1)]):
        list(turns(generator, samples))  # The calls are made, which runs the prelude on zeros.
    waiting = [started(generator, steps=4)]
    drawing = turns(generator, waiting)
    seen = []
    for step in range(4):
        before = preludes(machine, target)
        if step == 1:
            waiting.append(started(generator, steps=1))
        next(drawing)
        seen.append(preludes(machine, target) - before)
    # Alone, with the other one, and alone again, in the call that still holds the first's.
    assert seen == [1, 1, 0, 0]


def drawn_inputs(model: Model, seed: int) -> dict[str, Array]:
    """The conditioning of one evaluation."""
    record = model.package.manifest.roles["denoiser"]
    given = np.random.default_rng(seed)
    names = ("encoder_hidden_states", "text_embeds", "time_ids")
    sizes = {"evaluations": 1, "tokens": 32}
    return {
        name: given.normal(
            size=[sizes[each] if isinstance(each, str) else each for each in shape]
        ).astype(np.float32)
        for name in names
        for shape in [record.inputs[name].shape]
    }


Change = Callable[[Denoiser | Engine], None]


def replacing(model: Model, *scales: float) -> list[Change]:
    """Changes of a key of cross-attention: by another factor each, to the package's own by 1."""
    record = model.package.manifest.roles["denoiser"]
    name = next(each.initializer for key, each in record.parameters.items() if "attn2.to_k" in key)
    own = model.package.tensors("denoiser")[name]

    def change(scale: float) -> Change:
        values = Tensor(own.dtype, (own.values * scale).astype(own.values.dtype))
        return lambda denoiser: denoiser.replace_weights({} if scale == 1 else {name: values})

    return [change(scale) for scale in scales]


def advanced(denoiser: Denoiser, model: Model, changes: Sequence[Change]) -> list[Array]:
    """The latents of one sample after each of its steps; before each step, a change is made."""
    latents = np.random.default_rng(3).normal(size=(1, 4, 8, 8)).astype(np.float32)
    slot = denoiser.admit(latents, [drawn_inputs(model, 1), drawn_inputs(model, 2)])
    coefficients = np.array([1, 0, 1, 0, 1, 0.5, 0.5, 0, 0, 0, 0], np.float32)
    found = []
    for change in changes:
        change(denoiser)
        denoiser.advance([Row(slot, 500.0, coefficients, None, (3.0, -2.0), 0.0)])
        found.append(denoiser.latents(slot)())
    return found


def test_nothing_that_older_weights_made_of_a_text_outlasts_them(
    machine: Machine, model: Model, target: Target
) -> None:
    scales = (1.0, 30.0, -30.0, 30.0, 1.0, 1.0)
    changes = replacing(model, *scales)
    cpu = OnnxRuntimeCpu(model.package, threads=1)
    expected = advanced(cpu.open_denoiser(), model, changes)
    unchanged = advanced(cpu.open_denoiser(), model, replacing(model, *[1.0] * len(scales)))
    found = advanced(machine.backend(model, target).open_denoiser(), model, changes)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
    assert np.abs(unchanged[1] - expected[1]).max() > 1e-2 * np.abs(expected[1]).max()


def test_an_engine_over_host_arrays_reads_the_conditioning_of_every_run(
    machine: Machine, model: Model, target: Target
) -> None:
    (weights,) = replacing(model, 30.0)
    asked = ((1, False), (2, False), (1, False), (1, True), (2, True), (2, False))

    def answers(engine: Engine) -> Iterator[Array]:
        for seed, replaced in asked:
            engine.replace_weights({})
            if replaced:
                weights(engine)
            yield engine.run({**STEP, **drawn_inputs(model, seed)})["next_latents"]

    expected = list(answers(OnnxRuntimeCpu(model.package, threads=1).open("denoiser")))
    found = list(answers(machine.backend(model, target).open("denoiser")))
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
    assert np.array_equal(found[0], found[2])
    assert not np.allclose(found[0], found[1], atol=1e-3)
    assert not np.allclose(found[1], found[4], atol=1e-3)


def test_a_weight_that_no_graph_takes_is_refused_by_its_name(
    machine: Machine, model: Model, target: Target
) -> None:
    record = model.package.manifest.roles["denoiser"]
    fixed = next(each.initializer for each in record.parameters.values() if not each.replaceable)
    engine = machine.backend(model, target).open("denoiser")
    with pytest.raises(BackendError, match=f"denoiser: {fixed} cannot be replaced"):
        engine.replace_weights({fixed: model.package.tensors("denoiser")[fixed]})


def test_a_call_that_could_not_be_conditioned_is_conditioned_the_next_time(
    machine: Machine, model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = machine.backend(model, target).open_denoiser()
    latents = np.ones((1, 4, 8, 8), np.float32)
    first, second = (denoiser.admit(latents, [drawn_inputs(model, seed)]) for seed in (1, 2))
    rows = [
        Row(slot, 500.0, np.ones(11, np.float32), None, (1.0,), 0.0) for slot in (first, second)
    ]
    denoiser.advance(rows[:1])

    def fail(_: OnnxCudaCall) -> None:
        raise DeviceError("the prelude failed")

    with monkeypatch.context() as failing:
        failing.setattr(OnnxCudaCall, "condition", fail)
        with pytest.raises(DeviceError, match="the prelude failed"):
            denoiser.advance(rows[1:])
    before = preludes(machine, target)
    denoiser.advance(rows[:1])
    assert preludes(machine, target) == before + 1


def test_a_prelude_that_cannot_be_opened_leaves_nothing_behind(
    machine: Machine, model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = machine.backend(model, target)
    open_session = cuda_session.open_session

    def refuse(source: Source, *arguments: object, **named: object) -> object:
        if source.path == target.prelude("denoiser"):
            raise BackendError("no room for the prelude")
        return open_session(source, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(cuda_session, "open_session", refuse)
    with pytest.raises(BackendError, match="no room for the prelude"):
        backend.open("denoiser")
    assert set(backend.device_memory()) == {"free", "total"}


def test_a_prelude_that_meets_an_error_of_a_capture_is_opened_again_and_serves_on(
    machine: Machine, model: Model, target: Target
) -> None:
    machine.backend(model, target)  # The module that is imported is the fake one from here on.
    device = Device(Cuda(machine.cuda, machine.cuda))
    stream = Stream(device.cuda, urgent=True)
    role, engine = "denoiser", target.record.identity.engines["denoiser"]
    record = model.package.manifest.roles[role]
    network = OnnxCudaNetwork(device, stream, role, record, engine)
    weights = model.package.weights_folder(role)
    network.open(NetworkFiles(target.engine(role), target.prelude(role), weights))
    given = {**STEP, **drawn_inputs(model, 1)}
    call = network.call({name: array.shape for name, array in given.items()}, "these shapes")
    uploads = Uploads(device.pinned, stream)
    for name, array in given.items():
        uploads.put(array.astype(call.inputs[name].dtype), call.inputs[name].memory.address)
    uploads.end_round()

    def answer() -> np.ndarray:
        call.condition()
        call.run()
        return reading(device.pinned, stream, call.outputs["next_latents"])()

    expected, opened = answer(), len(machine.models)
    with pytest.raises(CaptureError):
        capture(stream, lambda: check(machine.provider.runtime.synchronize(stream.address)))
    device.spoilt = True
    assert np.array_equal(answer(), expected)
    assert len(machine.models) == opened + 1
    assert any("denoiser's prelude was opened again" in each for each in device.shortfalls)


def check(code: FakeError) -> None:
    if code:
        raise BackendError(code.name)

"""The reference drawn role by role: that it is the picture that ONNX Runtime draws on the CPU."""

import gc
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import onnxruntime
import pytest

from engine_build.progress import Phases
from engine_build.target.capture import Call, RoleByRole, captured_calls, plans_of
from engine_build.target.unfused import CPU
from runtime.backends.host_denoiser import HostDenoiser
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.placing import Placing
from runtime.backends.protocol import Array, Denoiser, Engine, Started
from runtime.draw.generate import Generator
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage, load_package
from runtime.package.tensors import Tensor
from runtime.plan.model import model_of
from runtime.wire.options import DrawOptions
from tests.places import ENGINES

SIZES = [(64, 96), (64, 64)]

TOLERANCE = 1e-4
"""Of the largest magnitude: the order of sums differs, and the denoiser's second call is given what
its first answered."""


class Recording:
    """The backend that serves on the CPU, every network open at once, each with a recorder."""

    name = "recording"
    device = "cpu"
    multiplies_updates = False
    few_shapes = True
    placing = Placing()

    def __init__(self, package: ModelPackage) -> None:
        self._backend = OnnxRuntimeCpu(package)
        self.calls: dict[str, list[Call]] = {}

    def open(self, role: str) -> Engine:
        real = self._backend.open(role)
        self.calls[role] = calls = []

        class Recorder:
            replace_weights = staticmethod(real.replace_weights)
            close = staticmethod(real.close)

            def start(self, inputs: dict[str, Array]) -> Started:
                outputs = self.run(inputs)
                return lambda: outputs

            def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
                calls.append(Call(dict(inputs), real.run(inputs)))
                return dict(calls[-1].outputs)

        recorder: Any = Recorder()
        found: Engine = recorder
        return found

    def open_denoiser(self) -> Denoiser:
        return HostDenoiser(self.open("denoiser"))


def served(package: ModelPackage) -> dict[str, list[Call]]:
    """Every role's calls as a server makes them: previews between the steps."""
    model = model_of(package)
    backend = Recording(package)
    generator = Generator(model, backend, DrawOptions(max_batch=1))
    for plan in plans_of(model, SIZES):
        for event in generator.steps(plan):
            size = (plan.request.width, plan.request.height)
            generator.previewer.jpeg(generator.predicted(event.sample), *size)
            if event.finished:
                generator.decode(generator.latents(event.sample))
    return backend.calls


def far(ours: Array, theirs: Array) -> float:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    if ours.dtype == np.uint8:
        # A value between two levels may become either.
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        return 0.0
    scale = np.abs(theirs.astype(np.float64)).max()
    return float(np.abs(ours.astype(np.float64) - theirs).max() / max(scale, 1e-30))


@pytest.mark.parametrize(
    "name", ["demo", "tiny", "tiny_flux", "tiny_schnell", "tiny_chroma", "tiny_zimage"]
)
def test_every_call_is_that_of_a_picture_on_the_cpu(
    name: str, request: pytest.FixtureRequest
) -> None:
    engines: Path = ENGINES if name == "demo" else request.getfixturevalue(f"{name}_package")
    package = load_package(engines, name)
    ours = captured_calls(package, SIZES, CPU, Phases("x", shown=False))
    theirs = served(package)
    assert ours.keys() == theirs.keys()
    for role, calls in ours.items():
        assert len(calls) == len(theirs[role]) > 0
        for call, expected in zip(calls, theirs[role], strict=True):
            for found, wanted in ((call.inputs, expected.inputs), (call.outputs, expected.outputs)):
                assert found.keys() == wanted.keys()
                off = {each: far(found[each], wanted[each]) for each in found}
                assert max(off.values()) <= TOLERANCE, (role, off)


def test_one_network_is_open_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: WeakSet[Any] = WeakSet()
    opened: list[str] = []

    class Counted(onnxruntime.InferenceSession):  # type: ignore[misc, unused-ignore]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            assert len(alive) == 0
            super().__init__(*arguments, **named)
            alive.add(self)
            opened.append(self.get_inputs()[0].name)

    gc.disable()  # A session is gone when it is closed, not when a collector comes by.
    try:
        monkeypatch.setattr(onnxruntime, "InferenceSession", Counted)
        package = load_package(ENGINES, "demo")
        captured_calls(package, SIZES, CPU, Phases("x", shown=False))
    finally:
        gc.enable()
    assert len(alive) == 0
    # Two prompts through two encoders, in turns; then each network once, for all pictures.
    assert len(opened) == 4 + 3


def test_what_a_caller_does_to_its_arrays_leaves_the_record_alone() -> None:
    package = load_package(ENGINES, "demo")
    backend = RoleByRole(package, CPU, Phases("x", shown=False), {})
    engine = backend.open("preview_decoder")
    latents = np.ones((1, 4, 8, 8), np.float32)
    engine.run({"latents": latents})
    latents[:] = 0
    assert (backend.calls["preview_decoder"][0].inputs["latents"] == 1).all()
    backend.close()


def test_no_lora_is_drawn_with() -> None:
    package = load_package(ENGINES, "demo")
    engine = RoleByRole(package, CPU, Phases("x", shown=False), {}).open("denoiser")
    engine.replace_weights({})
    weight = Tensor("F32", np.zeros((1, 1), np.float32))
    with pytest.raises(BackendError, match="denoiser: a reference is drawn without LoRAs"):
        engine.replace_weights({"x": weight})

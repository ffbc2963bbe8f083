"""The demo model through the CUDA provider's code on fakes, and the fakes against the real library.

No CUDA is in it: what is shown is which buffers are bound, in which order, and whose weights act.
"""

import inspect
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from runtime.backends.cuda import Cuda
from runtime.backends.cuda_fake import FakeCuda
from runtime.backends.onnxruntime import OnnxRuntimeCpu
from runtime.backends.onnxruntime_cuda import PROVIDER, OnnxRuntimeCuda
from runtime.backends.onnxruntime_fake import (
    FakeIOBinding,
    FakeOutput,
    FakeSession,
    fake_onnxruntime,
)
from runtime.errors import BackendError
from runtime.generate import Generator
from runtime.model import Model, open_model
from runtime.target import Target
from tests.runtime.targets import Made, add_target

BODY = {"prompt": "a red heart", "seed": 5, "width": 64, "height": 64, "steps": 3}


@pytest.fixture(scope="module")
def model(lora_engines: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("engines")
    shutil.copytree(lora_engines / "demo", folder / "demo")
    return open_model(folder, "demo")


@pytest.fixture(scope="module")
def target(model: Model) -> Target:
    return add_target(model.package.path, Made(backend="onnxruntime-cuda", sizes=((64, 64),)))


def opened(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch, took: str = PROVIDER
) -> OnnxRuntimeCuda:
    cuda = FakeCuda()
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_onnxruntime(cuda, took))
    return OnnxRuntimeCuda(model.package, target, Cuda(cuda), "Imagined GPU")


def drawn(generator: Generator, **body: object) -> np.ndarray:
    plan = generator.model.plan(generator.model.read({**BODY, **body}))
    *_, last = (generator.latents(event.sample) for event in generator.steps(plan))
    return last


def test_pictures_are_those_of_the_cpu_and_loras_leave_nothing_behind(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [offer.id for offer in model.loras]
    bodies: list[dict[str, object]] = [
        {},
        {"loras": [{"id": ids[0], "weight": 1.0}]},
        {"loras": [{"id": ids[-1], "weight": -0.5}]},
        {"loras": [{"id": ids[0], "weight": 1.0}]},
        {"cfg_scale": 1.0},
    ]
    reference = Generator(model, OnnxRuntimeCpu(model.package, threads=1))
    expected = [drawn(reference, **body) for body in bodies]
    generator = Generator(model, opened(model, target, monkeypatch))
    for body, theirs in zip(bodies, expected, strict=True):
        ours = drawn(generator, **body)
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), body
    assert generator.decode(ours).shape == (64, 64, 3)


def test_another_provider_than_the_one_that_was_asked_for_is_refused(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened(model, target, monkeypatch, took="CPUExecutionProvider")
    with pytest.raises(BackendError, match=f"took CPUExecutionProvider, .* asked for {PROVIDER}"):
        backend.open("vae_decoder")


def test_a_size_that_was_not_verified_is_refused(
    model: Model, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator(model, opened(model, target, monkeypatch))
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

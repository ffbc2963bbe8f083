"""Facts of ONNX Runtime on the CPU, beside what `test_cpu_backends` asks of every backend there."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from runtime.backends.onnxruntime.cpu import PROVIDER, OnnxEngine, least_inputs
from runtime.errors import BackendError
from runtime.machine import resident_bytes
from runtime.package.manifest import ModelPackage, read_manifest
from runtime.package.tensors import Tensor, map_tensors, stored
from tests.places import ENGINES

ROLE = "text_encoder_2"
LAYER = "text_model.encoder.layers.0"
MATRIX = f"{LAYER}.mlp.fc1.weight"


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    """The committed demo model, in a folder of the test's own."""
    shutil.copytree(ENGINES / "demo", tmp_path / "demo")
    manifest, digest = read_manifest(tmp_path / "demo")
    return ModelPackage(tmp_path / "demo", manifest, digest)


def changed(package: ModelPackage, *names: str, factor: float = 1.5) -> dict[str, Tensor]:
    own = map_tensors(package.file(f"{ROLE}.safetensors"))
    return {
        name: Tensor(own[name].dtype, stored(own[name].fp32() * factor, own[name].dtype))
        for name in names
    }


def inputs(package: ModelPackage) -> dict[str, np.ndarray]:
    length = package.manifest.tokenizers["tokenizer_2"].max_length
    return {
        "input_ids": np.arange(length, dtype=np.int64)[np.newaxis],
        "layer": np.array([-2], np.int64),
    }


def test_another_provider_than_the_one_that_was_asked_for_is_refused(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = ["AzureExecutionProvider", PROVIDER]
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda _: took)
    with pytest.raises(BackendError, match=f"took Azure.*, {PROVIDER}, asked for {PROVIDER}"):
        OnnxEngine(package, ROLE, threads=1)


def test_why_initializers_are_not_overridden(package: ModelPackage) -> None:
    """`SessionOptions.add_initializer` would be the plain way. ONNX Runtime folds the graph's own
    values into what it runs before it looks at them, and says nothing. Should this fail one day,
    that way is open.
    """
    (tensor,) = changed(package, MATRIX).values()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(tensor.values)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_initializer(MATRIX, value)
    graph = package.file(package.manifest.roles[ROLE].graph)
    session = onnxruntime.InferenceSession(graph, options, providers=[PROVIDER])
    (found,) = session.run(["hidden_states"], inputs(package))
    engine = OnnxEngine(package, ROLE, threads=1)
    np.testing.assert_array_equal(found, engine.run(inputs(package))["hidden_states"])


def test_the_memory_of_a_large_call_is_given_back(package: ModelPackage) -> None:
    engine = OnnxEngine(package, "vae_decoder", threads=2)
    small = engine.run({"latents": np.zeros((1, 4, 2, 2), np.float32)})
    before = resident_bytes() or 0
    engine.run({"latents": np.zeros((1, 4, 64, 64), np.float32)})
    kept = (resident_bytes() or 0) - before
    engine.give_back()
    assert (resident_bytes() or 0) - before < kept / 2
    again = engine.run({"latents": np.zeros((1, 4, 2, 2), np.float32)})
    assert (again["image"] == small["image"]).all()


@pytest.mark.parametrize("role", ["denoiser", "text_encoder", "vae_decoder", "preview_decoder"])
def test_every_network_runs_on_its_least_inputs(package: ModelPackage, role: str) -> None:
    engine = OnnxEngine(package, role, threads=1)
    least = least_inputs(package.manifest.roles[role])
    assert all(np.isfinite(output).all() for output in engine.run(least).values())
    engine.give_back()

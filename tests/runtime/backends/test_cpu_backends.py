"""The backends of the CPU, by one contract: they answer alike, with replaced weights too."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.protocol import Backend, Engine
from runtime.backends.rows import CPU, CPU_BACKENDS, BackendRow, Opening
from runtime.draw.cpu_trial import recorded
from runtime.draw.generate import Generator
from runtime.errors import BackendError
from runtime.package.manifest import ModelPackage, read_manifest
from runtime.package.tensors import Tensor, map_tensors, stored
from runtime.plan.model import Model, open_model
from tests.places import ENGINES

ROLE = "text_encoder_2"
LAYER = "text_model.encoder.layers.0"
MATRIX = f"{LAYER}.mlp.fc1.weight"
OTHER = f"{LAYER}.self_attn.q_proj.weight"
EMBEDDING = "text_model.embeddings.token_embedding.weight"
BIAS = f"{LAYER}.mlp.fc1.bias"

BODIES: list[dict[str, Any]] = [
    {"prompt": "a red heart", "seed": 1, "steps": 6},
    {"prompt": "a green star", "seed": 2, "steps": 4, "cfg_scale": 1.0, "sampler": "euler_a"},
    {"prompt": "a blue car", "seed": 3, "steps": 5, "sampler": "dpm++_2m", "width": 160},
]

Open = Callable[[ModelPackage], Backend]


@pytest.fixture(params=CPU_BACKENDS, ids=lambda row: row.name)
def opened(request: pytest.FixtureRequest) -> Open:
    """Opens the backend on one thread."""
    row: BackendRow = request.param
    if row.name != CPU:
        request.getfixturevalue("openvino")
    return lambda package: row.open(Opening(package, None, "cpu", threads=1))


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    """The committed demo model, in a folder of the test's own."""
    shutil.copytree(ENGINES / "demo", tmp_path / "demo")
    manifest, digest = read_manifest(tmp_path / "demo")
    return ModelPackage(tmp_path / "demo", manifest, digest)


@pytest.fixture(scope="module")
def model(lora_engines: Path) -> Model:
    return open_model(lora_engines, "demo")


@pytest.fixture(scope="module")
def reference(model: Model) -> Generator:
    return Generator(model, OnnxRuntimeCpu(model.package, threads=1))


def changed(package: ModelPackage, *names: str, factor: float = 1.5) -> dict[str, Tensor]:
    own = map_tensors(package.file(f"{ROLE}.safetensors"))
    return {
        name: Tensor(own[name].dtype, stored(own[name].fp32() * factor, own[name].dtype))
        for name in names
    }


def write_into(package: ModelPackage, weights: Mapping[str, Tensor]) -> None:
    """Change the package itself: its file of weights, in place."""
    path = package.file(f"{ROLE}.safetensors")
    content = bytearray(path.read_bytes())
    for name, tensor in weights.items():
        before = np.ascontiguousarray(map_tensors(path)[name].values).tobytes()
        assert content.count(before) == 1
        begin = content.index(before)
        content[begin : begin + len(before)] = tensor.values.tobytes()
    path.write_bytes(content)


def run(engine: Engine, package: ModelPackage) -> np.ndarray:
    length = package.manifest.tokenizers["tokenizer_2"].max_length
    inputs = {
        "input_ids": np.arange(length, dtype=np.int64)[np.newaxis],
        "layer": np.array([-2], np.int64),
    }
    return np.asarray(engine.run(inputs)["hidden_states"])


@pytest.mark.parametrize(
    "names", [(MATRIX,), (MATRIX, OTHER), (EMBEDDING,), (BIAS, MATRIX)], ids=" ".join
)
def test_replaced_weights_are_as_the_packages_own(
    opened: Open, package: ModelPackage, names: tuple[str, ...]
) -> None:
    engine = opened(package).open(ROLE)
    base = run(engine, package)
    weights = changed(package, *names)
    engine.replace_weights(weights)
    replaced = run(engine, package)
    engine.close()
    write_into(package, weights)
    expected = run(opened(package).open(ROLE), package)
    assert np.abs(expected - base).max() > 0.005
    np.testing.assert_allclose(replaced, expected, rtol=1e-4, atol=1e-5)


def test_only_what_was_replaced_last_holds(opened: Open, package: ModelPackage) -> None:
    engine = opened(package).open(ROLE)
    base = run(engine, package)
    first, second = changed(package, MATRIX), changed(package, OTHER, factor=0.5)
    engine.replace_weights(first)
    expected = run(engine, package)
    engine.replace_weights({**first, **second})
    assert np.abs(run(engine, package) - expected).max() > 1e-3
    engine.replace_weights(second)
    engine.replace_weights(first)
    np.testing.assert_allclose(run(engine, package), expected, rtol=1e-5, atol=1e-6)
    engine.replace_weights({})
    np.testing.assert_array_equal(run(engine, package), base)


def test_every_network_answers_as_onnx_runtime_does(opened: Open, model: Model) -> None:
    calls, backend = recorded(model), opened(model.package)
    assert {role for role, made in calls.items() if made} == set(model.package.manifest.roles)
    for role, made in calls.items():
        engine = backend.open(role)
        for call in made:
            found = engine.start(call.inputs)()
            assert found.keys() == call.outputs.keys()
            for name, expected in call.outputs.items():
                assert found[name].dtype == expected.dtype
                largest = 255 if expected.dtype == np.uint8 else np.abs(expected).max()
                off = np.abs(found[name].astype(np.float64) - expected).max() / largest
                assert off <= (1 / 255 if expected.dtype == np.uint8 else 1e-4), (role, name)
        engine.close()


def test_answers_are_the_callers_own(opened: Open, model: Model) -> None:
    engine = opened(model.package).open("denoiser")
    first, second = recorded(model)["denoiser"][:2]
    found = engine.run(first.inputs)
    before = {name: array.copy() for name, array in found.items()}
    engine.run(second.inputs)
    for name, array in before.items():
        np.testing.assert_array_equal(found[name], array)
        found[name][...] = 0.0
    again = engine.run(first.inputs)
    assert all((again[name] == before[name]).all() for name in before)


def test_samples_of_a_batch_are_drawn_as_each_alone(
    opened: Open, model: Model, reference: Generator
) -> None:
    found = drawn(Generator(model, opened(model.package)), BODIES)
    for body in BODIES:
        (expected,) = drawn(reference, [body]).values()
        assert close(found[body["seed"]], expected), body


def test_loras_and_their_absence_draw_as_on_onnx_runtime(
    opened: Open, model: Model, reference: Generator
) -> None:
    generator = Generator(model, opened(model.package))
    pictures = []
    for loras in ([("lora0", 1.0)], [("lora0", 0.5), ("lora1", 0.8)], [], [("lora3", 1.0)]):
        chosen = [{"id": name, "weight": weight} for name, weight in loras]
        body = {"prompt": "a red heart", "seed": 1, "steps": 4, "loras": chosen}
        (found,) = drawn(generator, [body]).values()
        (expected,) = drawn(reference, [body]).values()
        assert close(found, expected), loras
        pictures.append(found)
    plain = pictures.pop(2)
    assert all(np.abs(each - plain).max() > 1e-3 for each in pictures)


def test_a_graph_that_cannot_be_read_is_refused_in_a_line(
    opened: Open, package: ModelPackage
) -> None:
    backend, graph = opened(package), package.file(package.manifest.roles[ROLE].graph)
    graph.write_bytes(graph.read_bytes()[:1000])
    with pytest.raises(BackendError, match=r"cannot (open|read) it: ") as refusal:
        backend.open(ROLE)
    assert str(refusal.value).startswith(str(graph))
    assert "\n" not in str(refusal.value)


def test_what_cannot_be_run_is_refused_in_a_line(opened: Open, package: ModelPackage) -> None:
    engine = opened(package).open(ROLE)
    with pytest.raises(BackendError, match=f"^{ROLE}: ") as refusal:
        engine.run({"input_ids": np.zeros((1, 3, 5), np.int64), "layer": np.array([-2])})
    assert "\n" not in str(refusal.value)


def drawn(generator: Generator, bodies: list[dict[str, Any]]) -> dict[int, np.ndarray]:
    """The final latents by seed, of pictures that are drawn together as far as they can be."""
    samples = [generator.start(generator.model.plan_of(body)) for body in bodies]

    def arrivals(_free: int) -> list[Any]:
        return [samples.pop() for _ in list(samples)]

    return dict(finished(generator, arrivals))


def finished(
    generator: Generator, arrivals: Callable[[int], list[Any]]
) -> Iterator[tuple[int, np.ndarray]]:
    for events in generator.turns(arrivals):
        for event in events:
            if event.finished:
                yield event.sample.plan.request.seed, generator.latents(event.sample)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).max() < 1e-4 * np.abs(expected).max())

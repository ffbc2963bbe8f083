"""Captions of any length in few shapes, so that CUDA graphs are few, on fakes of CUDA."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.draw.extents import extents_of, filled
from runtime.draw.generate import Generator
from runtime.package.backend_name import BackendName
from runtime.package.manifest import Manifest, write_manifest
from runtime.package.target import Target
from runtime.plan.model import Model, open_model
from tests.fakes.machine import Machine
from tests.fakes.provider import Machine as ProviderMachine
from tests.runtime.package.targets import Made, add_target

SIZE = {"width": 64, "height": 64}

# In words, of one token each, inside of the chat template; the last makes the longest caption.
WORDS = (*range(0, 496, 31), 496)


@pytest.fixture
def model(tiny_zimage_package: Path, tmp_path: Path) -> Model:
    """In a folder of the test's own."""
    shutil.copytree(tiny_zimage_package / "tiny_zimage", tmp_path / "tiny_zimage")
    return open_model(tmp_path, "tiny_zimage")


def body(words: int) -> dict[str, object]:
    return {"prompt": " ".join(["a"] * words), "seed": 5, "steps": 1, **SIZE}


def tokens_of(model: Model, words: int) -> int:
    (prompt,) = model.plan(model.read(body(words))).prompts
    return prompt.tokens


def drawn(generator: Generator, words: int) -> np.ndarray:
    plan = generator.model.plan(generator.model.read(body(words)))
    (found,) = [generator.latents(event.sample) for event in generator.steps(plan)]
    return found


def without_extents(manifest: Manifest) -> Manifest:
    """As an older version wrote it."""
    roles = {
        name: replace(
            role, axes={axis: replace(record, extents=()) for axis, record in role.axes.items()}
        )
        for name, role in manifest.roles.items()
    }
    return replace(manifest, roles=roles)


def target_of(model: Model, backend: BackendName = "tensorrt", samples: int = 1) -> Target:
    made = Made(backend=backend, sizes=((64, 64),), samples=samples, evaluations=(1,))
    return add_target(model.package.path, made)


def captured(model: Model, machine: Machine) -> dict[int, int]:
    """The graphs that captions of all lengths take one after another, by the caption's tokens."""
    generator = machine.generator(model, target_of(model))
    taken = {}
    for words in WORDS:
        before = machine.cuda.captures
        drawn(generator, words)
        taken[tokens_of(model, words)] = machine.cuda.captures - before
    return {tokens: count for tokens, count in taken.items() if count}


def test_captions_of_all_lengths_take_few_graphs(model: Model) -> None:
    """Two for each extent of captions: the text encoder's and the denoiser's."""
    taken = captured(model, Machine())
    assert list(taken.values()) == [2, 2, 2, 2]
    assert [-(-tokens // 128) for tokens in taken] == [1, 2, 3, 4]


def test_a_package_of_an_older_version_is_drawn_as_it_was(model: Model) -> None:
    """Its graph would see what lies behind a caption's own multiple of 32 tokens."""
    write_manifest(model.package.path, without_extents(model.package.manifest))
    older = open_model(model.package.path.parent, "tiny_zimage")
    machine = Machine()
    taken = captured(older, machine)
    assert list(taken.values()) == [2] * 16
    assert [-(-tokens // 32) for tokens in taken] == list(range(1, 17))


@pytest.mark.parametrize("words", [1, 20, 200])
def test_a_picture_is_the_same_in_a_wider_extent(model: Model, words: int) -> None:
    expected = drawn(Generator(model, OnnxRuntimeCpu(model.package)), words)
    found = drawn(Machine().generator(model, target_of(model)), words)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_caption_s_length_is_no_part_of_a_prelude_s_call(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's graph for what depends on the caption alone is run anew for each caption."""
    on_cpu = Generator(model, OnnxRuntimeCpu(model.package))
    expected = {words: drawn(on_cpu, words) for words in (3, 40, 90)}
    backend = ProviderMachine(monkeypatch).backend(model, target_of(model, "onnxruntime-cuda"))
    generator = Generator(model, backend)
    for words, latents in expected.items():
        found = drawn(generator, words)
        np.testing.assert_allclose(found, latents, rtol=0, atol=1e-5 * np.abs(latents).max())


def test_captions_of_different_lengths_share_a_call(model: Model) -> None:
    generator = Machine().generator(model, target_of(model, samples=2))
    plans = [model.plan(model.read({**body(words), "steps": 2})) for words in (3, 40)]
    waiting = [generator.start(plan) for plan in plans]
    turns = generator.turns(lambda _: [waiting.pop()] if waiting else [])
    assert max(len(events) for events in turns) == 2


def test_no_first_caption_waits_for_a_capture(model: Model) -> None:
    machine = Machine()
    generator = machine.generator(model, target_of(model))
    generator.warm_up()
    before = machine.cuda.captures
    for words in WORDS[::4]:
        drawn(generator, words)
    assert machine.cuda.captures == before


def test_on_the_cpu_nothing_is_filled(model: Model) -> None:
    generator = Generator(model, OnnxRuntimeCpu(model.package))
    (found,) = generator.conditioning(model.plan(model.read(body(40))))
    assert found["caption"].shape[1] == 64


def test_what_is_longer_than_every_extent_stays_as_it_is(model: Model) -> None:
    record = model.package.manifest.roles["text_encoder"]
    assert extents_of(record) == (128, 256, 384, 512)
    for length, expected in ((2, 128), (128, 128), (129, 256), (512, 512), (513, 513)):
        ids = np.ones((1, length), np.int64)
        found = filled({"input_ids": ids}, record)["input_ids"]
        assert (found.shape, found.sum()) == ((1, expected), length)
    wider = filled({"input_ids": np.ones((1, 2), np.int64)}, record, least=300)
    assert wider["input_ids"].shape == (1, 384)

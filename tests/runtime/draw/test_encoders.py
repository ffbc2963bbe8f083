"""Text encoders that are put aside between prompts, or on the CPU beside a device: the same bits,
and what is open when.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends.low_rank import Weights
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.backends.placing import Placing, TextPlace
from runtime.backends.protocol import Array, Engine, Started
from runtime.draw.generate import Generator
from runtime.errors import BackendError
from runtime.plan.model import Model, open_model
from runtime.wire.options import DrawOptions

BODY = {"prompt": "a (red:1.2) heart", "seed": 3, "steps": 1}
GUIDED = {**BODY, "negative_prompt": "blue", "cfg_scale": 4}
TEXT = ["text_encoder", "text_encoder_2"]


class Closable:
    """An engine that is noted while it is open, and refuses a second end and later runs."""

    def __init__(self, engine: Engine, role: str, opened: list[str]) -> None:
        self._engine, self._role, self._opened = engine, role, opened
        opened.append(role)

    def start(self, inputs: Mapping[str, Array]) -> Started:
        assert self._role in self._opened
        return self._engine.start(inputs)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self.start(inputs)()

    def replace_weights(self, weights: Weights) -> None:
        self._engine.replace_weights(weights)

    def close(self) -> None:
        self._opened.remove(self._role)
        self._engine.close()


class Noting(OnnxRuntimeCpu):
    """The backend of the CPU; notes which roles are open, and every opening."""

    def __init__(self, model: Model, place: TextPlace) -> None:
        super().__init__(model.package)
        self.placing = Placing(place)
        self.opened: list[str] = []
        self.openings: list[str] = []
        self.without_room = ""
        """The role that is refused."""

    def open(self, role: str) -> Engine:
        if role == self.without_room:
            raise BackendError(f"there is no room for {role}")
        self.openings.append(role)
        return Closable(super().open(role), role, self.opened)

    def text(self) -> list[str]:
        """The text encoders that are open."""
        return [role for role in self.opened if role in TEXT]


@pytest.fixture(scope="module")
def model(lora_engines: Path) -> Model:
    return open_model(lora_engines, "demo")


def conditioned(generator: Generator, **fields: Any) -> list[Mapping[str, np.ndarray]]:
    read = generator.model.read({**BODY, **fields})
    return list(generator.conditioning(generator.model.plan(read)))


def same(found: list[Mapping[str, np.ndarray]], expected: list[Mapping[str, np.ndarray]]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.parametrize("place", ["aside", "cpu"])
def test_the_same_bits_wherever_the_encoders_are(model: Model, place: TextPlace) -> None:
    """LoRAs act after encoders were opened again, and leave nothing behind."""
    kept = Generator(model, Noting(model, "keep"), DrawOptions(conditioning_bytes=0))
    other = Generator(model, Noting(model, place), DrawOptions(conditioning_bytes=0))
    touching = {"loras": [{"id": "lora3", "trigger_weight": 0}]}
    bodies: list[dict[str, Any]] = [GUIDED, touching, touching, {"clip_skip": 1}, GUIDED]
    found = [conditioned(other, **body) for body in bodies]
    for ours, body in zip(found, bodies, strict=True):
        same(ours, conditioned(kept, **body))
    name = "encoder_hidden_states"
    assert (found[1][0][name] != found[0][0][name]).any()


@pytest.mark.parametrize("family", ["flux", "chroma", "zimage"])
def test_the_same_bits_in_every_family(family: str, request: pytest.FixtureRequest) -> None:
    name = f"tiny_{family}"
    tiny = open_model(request.getfixturevalue(f"{name}_package"), name)
    backend = Noting(tiny, "aside")
    found = conditioned(Generator(tiny, backend))
    assert backend.text() == []
    same(found, conditioned(Generator(tiny, Noting(tiny, "keep"))))


def test_a_picture_opens_them_once_and_kept_prompts_never(model: Model) -> None:
    backend = Noting(model, "aside")
    generator = Generator(model, backend)
    assert not set(TEXT) & set(backend.openings)
    before = len(backend.openings)
    conditioned(generator, **GUIDED)
    assert (backend.openings[before:], backend.text()) == (TEXT, [])
    conditioned(generator, **GUIDED)
    assert backend.openings[before:] == TEXT
    conditioned(generator, **{**GUIDED, "prompt": "a green square"})
    assert (backend.openings[before:], backend.text()) == (TEXT + TEXT, [])


def test_encoders_that_are_kept_are_opened_once_for_all(model: Model) -> None:
    backend = Noting(model, "keep")
    generator = Generator(model, backend, DrawOptions(conditioning_bytes=0))
    opened = list(backend.openings)
    for _ in range(2):
        conditioned(generator)
    assert (backend.openings, backend.text()) == (opened, TEXT)


def test_on_the_cpu_the_device_opens_no_encoder(model: Model) -> None:
    backend = Noting(model, "cpu")
    conditioned(Generator(model, backend))
    assert not set(TEXT) & set(backend.openings)


@pytest.mark.parametrize("role", TEXT)
def test_encoders_without_room_fail_that_picture_alone(model: Model, role: str) -> None:
    backend = Noting(model, "aside")
    generator = Generator(model, backend)
    conditioned(generator)
    backend.without_room = role
    with pytest.raises(BackendError, match=f"there is no room for {role}"):
        conditioned(generator, prompt="a green square")
    assert backend.text() == []
    conditioned(generator)
    backend.without_room = ""
    found = conditioned(generator, prompt="a green square")
    same(found, conditioned(Generator(model, Noting(model, "keep")), prompt="a green square"))


def test_a_prompt_that_cannot_be_encoded_leaves_none_open(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Noting(model, "aside")
    generator = Generator(model, backend)

    def refused(_engine: Closable, _inputs: Mapping[str, Array]) -> Started:
        raise BackendError("it cannot run")

    with monkeypatch.context() as patch:
        patch.setattr(Closable, "start", refused)
        with pytest.raises(BackendError, match="it cannot run"):
            conditioned(generator)
    assert backend.text() == []
    assert conditioned(generator)


def test_the_first_opening_is_told_with_its_seconds(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    generator = Generator(model, Noting(model, "aside"), DrawOptions(conditioning_bytes=0))
    with caplog.at_level(logging.INFO, logger="runtime.draw.encoders"):
        for _ in range(2):
            conditioned(generator)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("text encoders were opened in ")
    assert line.endswith(" s, as for each new prompt")

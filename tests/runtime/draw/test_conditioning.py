"""Prompts that return: their conditioning is kept, and is what it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.draw.generate import Generator
from runtime.plan.model import Model, open_model
from runtime.plan.plan import Plan
from runtime.wire.options import DrawOptions
from tests.fakes.deferred import DeferringCpu

BODY = {"prompt": "a (red:1.2) heart", "negative_prompt": "blue", "seed": 3, "steps": 1}


@pytest.fixture(scope="module")
def model(lora_engines: Path) -> Model:
    return open_model(lora_engines, "demo")


def opened(model: Model, conditioning_bytes: int = 2**24) -> Generator:
    backend = OnnxRuntimeCpu(model.package)
    return Generator(model, backend, DrawOptions(conditioning_bytes=conditioning_bytes))


def plan(model: Model, **fields: Any) -> Plan:
    return model.plan(model.read({**BODY, **fields}))


def lookups(generator: Generator, drawn: Plan) -> tuple[int, int]:
    """Hits and misses of one plan."""
    before = generator.conditioner.lookups
    generator.conditioning(drawn)
    made = generator.conditioner.lookups.since(before)
    assert (made.seconds > 0) == (made.misses > 0)
    return made.hits, made.misses


def counted(generator: Generator) -> tuple[int, int]:
    """Hits and misses so far."""
    made = generator.conditioner.lookups
    return made.hits, made.misses


def same(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.parametrize("lora", [None, "lora0", "lora3"])
def test_the_same_bits_with_and_without_the_cache(model: Model, lora: str | None) -> None:
    drawn = plan(model, loras=[] if lora is None else [{"id": lora}])
    keeping, forgetting = opened(model), opened(model, conditioning_bytes=0)
    expected = forgetting.conditioning(drawn)
    for _ in range(2):
        same(keeping.conditioning(drawn), expected)
        same(forgetting.conditioning(drawn), expected)
    assert counted(keeping) == (2, 2)
    assert counted(forgetting) == (0, 6)


def test_only_what_the_encoders_read_decides(model: Model) -> None:
    generator = opened(model)
    assert lookups(generator, plan(model)) == (0, 2)
    returns = plan(model, seed=9, width=64, height=64, steps=4, loras=[{"id": "lora0"}])
    assert lookups(generator, returns) == (2, 0)
    for changed in (
        {"prompt": "a (red:1.3) heart"},
        {"prompt": "a (red:1.2) heart", "prompt_weighting": False},
        {"clip_skip": 1},
    ):
        assert lookups(generator, plan(model, **changed)) == (1, 1), changed
    # Zeros of one shape, and the encoding of no words.
    assert lookups(generator, plan(model, negative_prompt="")) == (1, 1)
    assert lookups(generator, plan(model, negative_prompt=None)) == (1, 1)


def test_a_lora_of_a_text_encoder_has_conditionings_of_its_own(model: Model) -> None:
    generator = opened(model)
    without = generator.conditioning(plan(model))
    touching = plan(model, loras=[{"id": "lora3", "trigger_weight": 0}])
    assert lookups(generator, touching) == (0, 2)
    assert lookups(generator, plan(model, loras=[{"id": "lora3", "weight": 0.5}])) == (0, 2)
    both = plan(model, loras=[{"id": "lora0"}, {"id": "lora3"}])
    assert lookups(generator, both) == (2, 0)
    assert lookups(generator, plan(model)) == (2, 0)
    name = "encoder_hidden_states"
    assert (generator.conditioning(touching)[0][name] != without[0][name]).any()


def test_what_was_used_longest_ago_is_encoded_again(model: Model) -> None:
    probe = opened(model).conditioning(plan(model))[0]
    settings = model.family.settings(plan(model).request)
    size = sum(array.nbytes for name, array in probe.items() if name not in settings)
    generator = opened(model, conditioning_bytes=2 * size)
    first, second = plan(model), plan(model, prompt="a green square", negative_prompt="grey")
    assert [lookups(generator, each) for each in (first, first)] == [(0, 2), (2, 0)]
    assert [lookups(generator, each) for each in (second, first)] == [(0, 2), (0, 2)]


def test_nobody_can_write_what_is_kept(model: Model) -> None:
    kept = opened(model).conditioning(plan(model))[0]["encoder_hidden_states"]
    with pytest.raises(ValueError, match="read-only"):
        kept[:] = 0


@pytest.mark.parametrize("lora", [None, "lora3"])
def test_both_encoders_are_under_way_before_the_first_is_read(
    model: Model, lora: str | None
) -> None:
    drawn = plan(model, loras=[] if lora is None else [{"id": lora}])
    backend = DeferringCpu(model.package)
    found = Generator(model, backend).conditioning(drawn)
    first, second = model.family.text_roles
    for_a_prompt = [("start", first), ("start", second), ("read", first), ("read", second)]
    assert backend.said == 2 * for_a_prompt
    same(found, opened(model).conditioning(drawn))

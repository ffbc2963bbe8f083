"""FLUX.1 dev and schnell: the pictures of diffusers' pipeline, and what the family refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.tiny.flow_models import T5_TOKENS
from runtime.draw.generate import Generator
from runtime.errors import RequestError
from runtime.plan.model import Model
from tests.fakes.deferred import DeferringCpu
from tests.parity import (
    assert_changed,
    assert_refused,
    assert_same,
    assert_same_in_company,
    generator_of,
    ours,
)
from tests.runtime.plan.families.packed import (
    REFUSALS,
    SIZES,
    WEIGHTED,
    Spans,
    assert_embedded,
    assert_weighs_on_request,
    body_of,
    emphasised,
    pipeline_of,
    reference,
    token_weights,
)

SCHNELL_TOKENS = 256

# T5 reads all of its words; CLIP reads the beginning alone.
TOO_LONG_FOR_CLIP = "a red apple, " * 20 + "two small cats"

PROMPTS = [
    "",
    "a photo of a red apple on a wooden table, soft light",
    "(weights:1.5) [stay] text, BREAK too",
    "the </s> end and <pad> stand in the text",
]


@pytest.fixture(scope="module")
def dev(tiny_flux_package: Path) -> Generator:
    return generator_of(tiny_flux_package, "tiny_flux")


@pytest.fixture(scope="module")
def schnell(tiny_schnell_package: Path) -> Generator:
    return generator_of(tiny_schnell_package, "tiny_schnell")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("steps", "cfg_scale"), [(1, 3.5), (4, 1.0), (7, 6.25)])
def test_dev_draws_what_diffusers_draws(
    tiny_flux_source: Path, dev: Generator, size: tuple[int, int], steps: int, cfg_scale: float
) -> None:
    body = {**body_of(size=size, steps=steps), "cfg_scale": cfg_scale}
    options = {"guidance_scale": cfg_scale, "max_sequence_length": T5_TOKENS}
    assert_same(ours(dev, body), reference(tiny_flux_source, body, options))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("steps", [1, 4])
def test_schnell_draws_what_diffusers_draws(
    tiny_schnell_source: Path, schnell: Generator, size: tuple[int, int], steps: int
) -> None:
    body = body_of(size=size, steps=steps)
    options = {"max_sequence_length": SCHNELL_TOKENS}
    assert_same(ours(schnell, body), reference(tiny_schnell_source, body, options))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_dev_reads_every_kind_of_text(tiny_flux_source: Path, dev: Generator, prompt: str) -> None:
    options = {"guidance_scale": 3.5, "max_sequence_length": T5_TOKENS}
    body = body_of(prompt)
    assert_same(ours(dev, body), reference(tiny_flux_source, body, options))


@pytest.mark.parametrize(("prompt", "spans"), WEIGHTED)
def test_weights_act_on_t5_as_published(
    tiny_flux_source: Path, dev: Generator, prompt: str, spans: Spans
) -> None:
    """And CLIP's pooled text is that of the words alone."""
    pipeline: Any = pipeline_of(tiny_flux_source)
    text, weights = token_weights(pipeline.tokenizer_2, spans)
    with torch.no_grad():
        states, pooled, _ = pipeline.encode_prompt(text, None, max_sequence_length=T5_TOKENS)
    embeddings = emphasised(states[0], weights)
    options = {
        "prompt": None,
        "prompt_embeds": embeddings[None],
        "pooled_prompt_embeds": pooled,
        "guidance_scale": 3.5,
    }
    body = {**body_of(prompt), "prompt_weighting": True}
    assert_embedded(dev, body, "encoder_hidden_states", [embeddings])
    assert_same(ours(dev, body), reference(tiny_flux_source, body, options))


def test_weights_act_on_request(schnell: Generator) -> None:
    assert_weighs_on_request(schnell)


def test_clip_reads_the_beginning_of_what_t5_reads_whole(
    tiny_schnell_source: Path, schnell: Generator
) -> None:
    assert len(schnell.model.tokenizers["tokenizer"].ids(TOO_LONG_FOR_CLIP)) > 77
    options = {"max_sequence_length": SCHNELL_TOKENS}
    body = body_of(TOO_LONG_FOR_CLIP)
    assert_same(ours(schnell, body), reference(tiny_schnell_source, body, options))


@pytest.mark.parametrize("change", [{"prompt": "two small cats"}, {"cfg_scale": 8.0}])
def test_prompt_and_guidance_change_the_picture(dev: Generator, change: dict[str, Any]) -> None:
    assert_changed(ours(dev, body_of()), ours(dev, {**body_of(), **change}))


def test_a_prompt_may_fill_t5_and_no_more(tiny_flux_source: Path, dev: Generator) -> None:
    filled = " ".join(["a"] * (T5_TOKENS - 1))
    options = {"guidance_scale": 3.5, "max_sequence_length": T5_TOKENS}
    body = body_of(filled)
    assert_same(ours(dev, body), reference(tiny_flux_source, body, options))
    with pytest.raises(RequestError) as refusal:
        dev.model.plan(dev.model.read(body_of(filled + " a a")))
    (fault,) = refusal.value.faults
    assert fault.pointer == "/prompt"
    assert fault.detail == "65 tokens, but this model reads at most 63; shorten it by 2"


def test_samples_have_the_same_bits_alone_and_in_company(dev: Generator) -> None:
    bodies = [
        {**body_of("a red apple", steps=8), "seed": 1, "cfg_scale": 2.0},
        {**body_of("two small cats", steps=5), "seed": 2, "cfg_scale": 7.0},
        {**body_of("", steps=3), "seed": 3},
    ]
    assert_same_in_company(dev, bodies)


@pytest.mark.parametrize(("fields", "pointer", "detail"), REFUSALS)
def test_dev_refuses_by_name_what_it_cannot_do(
    dev: Generator, fields: dict[str, Any], pointer: str, detail: str
) -> None:
    assert_refused(dev.model, fields, pointer, detail)


@pytest.mark.parametrize(
    ("fields", "pointer", "detail"),
    [
        *REFUSALS,
        ({"cfg_scale": 3.5}, "/cfg_scale", "FLUX.1 schnell models cannot honour this field"),
    ],
)
def test_schnell_refuses_by_name_what_it_cannot_do(
    schnell: Generator, fields: dict[str, Any], pointer: str, detail: str
) -> None:
    assert_refused(schnell.model, fields, pointer, detail)


def test_the_models_have_their_own_defaults(dev: Generator, schnell: Generator) -> None:
    def defaults(model: Model) -> tuple[int, float | None, str, int, int]:
        request = model.read({"prompt": "", "negative_prompt": "", "loras": []})
        return (
            request.steps,
            request.cfg_scale,
            request.sampler,
            request.width,
            request.height,
        )

    assert defaults(dev.model) == (50, 3.5, "euler", 64, 96)
    assert defaults(schnell.model) == (4, None, "euler", 64, 96)
    assert schnell.model.tokenizers["tokenizer_2"].spec.max_length == SCHNELL_TOKENS


def test_both_encoders_are_under_way_before_the_first_is_read(dev: Generator) -> None:
    plan = dev.model.plan(dev.model.read(body_of(PROMPTS[1])))
    backend = DeferringCpu(dev.model.package)
    (found,), (expected,) = (
        each.conditioning(plan) for each in (Generator(dev.model, backend), dev)
    )
    first, second = dev.model.family.text_roles
    asked = [("start", first), ("start", second), ("read", first), ("read", second)]
    assert backend.said == asked
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])

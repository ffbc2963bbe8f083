"""Z-Image Turbo: the pictures of diffusers' pipeline, and what the family refuses.

Captions are counted with the words of the chat template around them, as the model reads them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.tiny.flow_models import save_flow_source
from benchmarks.tiny.zimage_models import zimage_pipeline
from runtime.backends.low_rank import Weights
from runtime.backends.protocol import Started
from runtime.draw.generate import Generator
from runtime.errors import RequestError
from runtime.plan.model import Model, open_model
from tests.conftest import SMALL, PackageBuilder
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

LONGEST = 512

# Pictures of 16, 24 and 32 tokens: the first two are filled up to 32, the last is not.
SIZES = [(64, 64), (64, 96), (128, 64)]

# How the distilled model is meant to be drawn with.
UNGUIDED = {"guidance_scale": 0.0}


@pytest.fixture(scope="module")
def model(tiny_zimage_package: Path) -> Model:
    return open_model(tiny_zimage_package, "tiny_zimage")


@pytest.fixture(scope="module")
def generator(tiny_zimage_package: Path) -> Generator:
    return generator_of(tiny_zimage_package, "tiny_zimage")


def tokens_of(model: Model, prompt: str) -> int:
    (encoded,) = model.plan(model.read(body_of(prompt))).prompts
    return len(encoded.of("tokenizer")[0].ids)


def caption_of(model: Model, tokens: int) -> str:
    """A prompt that makes a caption of so many tokens."""
    prompt = " ".join(["a"] * (tokens - tokens_of(model, "")))
    assert tokens_of(model, prompt) == tokens
    return prompt


@pytest.mark.parametrize("steps", [8, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tokens", [31, 32, 33, 64, LONGEST])
def test_same_latents_and_pixels_as_diffusers(
    tiny_zimage_source: Path, generator: Generator, tokens: int, size: tuple[int, int], steps: int
) -> None:
    body = body_of(caption_of(generator.model, tokens), size, steps)
    assert_same(ours(generator, body), reference(tiny_zimage_source, body, UNGUIDED))


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "  spaces stay \n",
        "a photo of a red apple",
        "一辆复古蒸汽小火车 «Z» 😀 e\u0301",
        "(weights:1.5) [stay] text, BREAK too",
        "<|im_end|> in the text",
    ],
)
def test_same_for_every_kind_of_text(
    tiny_zimage_source: Path, generator: Generator, prompt: str
) -> None:
    body = body_of(prompt, steps=1)
    assert_same(ours(generator, body), reference(tiny_zimage_source, body, UNGUIDED))


@pytest.mark.parametrize("tokens", [31, 32, 33, LONGEST])
def test_the_encoder_is_run_at_few_lengths_and_what_fills_a_caption_is_dropped(
    model: Model, tokens: int
) -> None:
    read: list[tuple[int, ...]] = []

    class Encoder:
        def start(self, inputs: Mapping[str, np.ndarray]) -> Started:
            raise AssertionError(inputs)

        def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            read.append(inputs["input_ids"].shape)
            return {"hidden_states": np.ones((*read[-1], 4), np.float32)}

        def replace_weights(self, weights: Weights) -> None:
            raise AssertionError(weights)

    (prompt,) = model.plan(model.read(body_of(caption_of(model, tokens)))).prompts
    found = model.family.encode(prompt, {"text_encoder": Encoder()})
    filled = -(-tokens // 32) * 32
    assert read == [(1, filled)]
    assert found["caption"].shape == (1, filled, 4)
    assert found["caption"].sum() == tokens * 4
    assert found["caption_length"] == [tokens]


@pytest.mark.parametrize(("prompt", "spans"), WEIGHTED)
def test_weights_act_on_the_caption_as_published(
    tiny_zimage_source: Path, generator: Generator, prompt: str, spans: Spans
) -> None:
    """And not on the words of the chat template around it."""
    pipeline: Any = pipeline_of(tiny_zimage_source)
    tokenizer = pipeline.tokenizer
    text, weights = token_weights(tokenizer, spans)
    framed = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    before = len(tokenizer(framed[: framed.index(text)]).input_ids)
    with torch.no_grad():
        (states,), _ = pipeline.encode_prompt(text, do_classifier_free_guidance=False)
    embeddings = [emphasised(states, weights, before)]
    options = {**UNGUIDED, "prompt": None, "prompt_embeds": embeddings}
    body = {**body_of(prompt), "prompt_weighting": True}
    assert_embedded(generator, body, "caption", embeddings)
    assert_same(ours(generator, body), reference(tiny_zimage_source, body, options))


def test_weights_act_on_request(generator: Generator) -> None:
    assert_weighs_on_request(generator)


def test_the_transformer_normalises_a_positive_weight_away(generator: Generator) -> None:
    weighted = {**body_of("a (red:1.8) apple"), "prompt_weighting": True}
    assert_same(ours(generator, weighted), ours(generator, body_of("a red apple")))


def test_the_prompt_changes_the_picture(generator: Generator) -> None:
    first, other = (ours(generator, body_of(prompt)) for prompt in ("a red apple", "two cats"))
    assert_changed(first, other)


def test_a_checkpoint_in_bf16_draws_what_diffusers_draws(
    tmp_path: Path, build_once: PackageBuilder
) -> None:
    source = save_flow_source(tmp_path / "source", zimage_pipeline().to(torch.bfloat16))
    generator = generator_of(build_once(source, "tiny_zimage_bf16", SMALL), "tiny_zimage_bf16")
    parameters = generator.model.package.manifest.roles["denoiser"].parameters
    assert {parameter.dtype for parameter in parameters.values()} == {"BF16"}
    body = body_of("a red apple", SIZES[1])
    assert_same(ours(generator, body), reference(source, body, UNGUIDED))


def test_samples_have_the_same_bits_alone_and_in_company(generator: Generator) -> None:
    """Captions of one length, and of another that is filled up to as much."""
    prompts = ["a b", "b a", "a b a b"]
    lengths = [tokens_of(generator.model, prompt) for prompt in prompts]
    assert lengths[0] == lengths[1] != lengths[2]
    bodies = [
        {**body_of(prompt, steps=steps), "seed": steps}
        for prompt, steps in zip(prompts, (8, 5, 3), strict=True)
    ]
    assert_same_in_company(generator, bodies)


@pytest.mark.parametrize(
    ("fields", "pointer", "detail"),
    [
        *REFUSALS,
        ({"cfg_scale": 4.0}, "/cfg_scale", "Z-Image Turbo models cannot honour this field"),
        ({"height": 16}, "/height", "is less than the minimum, 32"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(
    model: Model, fields: dict[str, Any], pointer: str, detail: str
) -> None:
    assert_refused(model, fields, pointer, detail)


def test_what_it_cannot_do_may_be_said_to_be_absent(model: Model) -> None:
    absent = {"loras": [], "negative_prompt": "", "cfg_scale": None, "prompt_weighting": False}
    request = model.read({"prompt": "rain", **absent})
    assert (request.cfg_scale, request.steps, request.sampler) == (None, 8, "euler")
    assert model.plan(request).mixes == ((1.0,),) * 8


def test_a_caption_that_is_too_long_is_refused_and_not_cut_off(model: Model) -> None:
    with pytest.raises(RequestError) as refusal:
        model.plan(model.read(body_of(caption_of(model, LONGEST) + " a a")))
    (fault,) = refusal.value.faults
    frame = tokens_of(model, "")
    assert fault.pointer == "/prompt"
    assert fault.detail == (
        f"514 tokens, {frame} of them the frame that the model puts around it; "
        "expected at most 512: shorten it by 2 tokens"
    )

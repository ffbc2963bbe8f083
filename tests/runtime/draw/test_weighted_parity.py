"""Weights, chunks and breaks, of both prompts, against diffusers with embeddings made by the rule.

The reference cuts each prompt by hand, encodes every chunk with transformers, and weights it as the
web UI publishes it: multiply each token, then restore the chunk's mean. diffusers' pipeline is
handed the result.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from tests.parity import assert_changed, assert_same, generator_of, ours

Spans: TypeAlias = tuple[tuple[str, float], ...]

BODY: dict[str, Any] = {
    "width": 64,
    "height": 96,
    "seed": 42,
    "steps": 4,
    "cfg_scale": 5.0,
    "sampler": "euler",
    "schedule": "default",
}

# A prompt, and the chunks of weighted spans that it must be.
CASES: dict[str, tuple[str, tuple[Spans, ...], str, tuple[Spans, ...]]] = {
    "weights in both": (
        "a (red:1.5) apple",
        ((("a", 1.0), ("red", 1.5), ("apple", 1.0)),),
        "[blurry], (low quality:1.3)",
        ((("blurry", 1 / 1.1), (",", 1.0), ("low quality", 1.3)),),
    ),
    "a break, and a shorter negative prompt": (
        "a ((red)) apple BREAK (sky:0.6)",
        ((("a", 1.0), ("red", 1.21), ("apple", 1.0)), (("sky", 0.6),)),
        "(blurry:1.4)",
        ((("blurry", 1.4),), ()),
    ),
    "a shorter prompt": (
        "a red apple",
        ((("a red apple", 1.0),), ()),
        "blurry BREAK low quality",
        ((("blurry", 1.0),), (("low quality", 1.0),)),
    ),
}


def encoded(
    pipeline: diffusers.StableDiffusionXLPipeline, chunks: tuple[Spans, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states `[1, n * L, C]` of both encoders side by side, pooled text `[1, P]`."""
    pairs = (
        (pipeline.tokenizer, pipeline.text_encoder),
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    )
    hidden, pooled = [], []
    for spans in chunks:
        sides = []
        for tokenizer, encoder in pairs:
            ids, weights = [tokenizer.bos_token_id], [1.0]
            for text, weight in spans:
                found = tokenizer(text, add_special_tokens=False).input_ids
                ids += found
                weights += [weight] * len(found)
            filled = tokenizer.model_max_length - len(ids) - 1
            ids += [tokenizer.eos_token_id, *[tokenizer.pad_token_id] * filled]
            weights += [1.0] * (1 + filled)
            answer = encoder(torch.tensor([ids]), output_hidden_states=True)
            states = answer.hidden_states[-2]
            weighted = states * torch.tensor(weights)[None, :, None]
            sides.append(weighted * (states.mean() / weighted.mean()))
        hidden.append(torch.cat(sides, dim=-1))
        pooled.append(answer.text_embeds)
    return torch.cat(hidden, dim=1), pooled[0]


def reference(
    pipeline: diffusers.StableDiffusionXLPipeline,
    positive: tuple[Spans, ...],
    negative: tuple[Spans, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """diffusers' final latents `[1, C, h, w]` and pixels `[H, W, 3]`."""
    with torch.no_grad():
        states, pooled = encoded(pipeline, positive)
        negative_states, negative_pooled = encoded(pipeline, negative)
        prompts = {
            "prompt_embeds": states,
            "pooled_prompt_embeds": pooled,
            "negative_prompt_embeds": negative_states,
            "negative_pooled_prompt_embeds": negative_pooled,
        }
    return drawn_by(pipeline, prompts)


def drawn_by(
    pipeline: diffusers.StableDiffusionXLPipeline, prompts: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Final latents `[1, C, h, w]` and pixels `[H, W, 3]` of a pipeline for `BODY`; `prompts` are
    its arguments for both of them."""
    scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.scheduler = scheduler
    with torch.no_grad():
        latents = pipeline(
            **prompts,
            width=BODY["width"],
            height=BODY["height"],
            num_inference_steps=BODY["steps"],
            guidance_scale=BODY["cfg_scale"],
            generator=torch.Generator().manual_seed(BODY["seed"]),
            output_type="latent",
        ).images
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    (picture,) = pipeline.image_processor.postprocess(decoded, output_type="pil")
    assert isinstance(picture, Image.Image)
    return latents.numpy(), np.asarray(picture)


@pytest.fixture(scope="module")
def pipeline(tiny_source: Path) -> diffusers.StableDiffusionXLPipeline:
    opened = diffusers.StableDiffusionXLPipeline.from_pretrained(tiny_source, dtype=torch.float32)
    opened.set_progress_bar_config(disable=True)
    return opened


@pytest.mark.parametrize("case", CASES)
def test_as_diffusers_with_embeddings_of_the_published_rule(
    pipeline: diffusers.StableDiffusionXLPipeline, tiny_package: Path, case: str
) -> None:
    prompt, positive, negative_prompt, negative = CASES[case]
    body = {**BODY, "prompt": prompt, "negative_prompt": negative_prompt}
    generator = generator_of(tiny_package, "tiny")
    assert_same(ours(generator, body), reference(pipeline, positive, negative))


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_the_weights_of_either_prompt_change_the_picture(tiny_package: Path, field: str) -> None:
    generator = generator_of(tiny_package, "tiny")
    body = {**BODY, "prompt": "a red apple", "negative_prompt": "blurry, low quality"}
    changed = {**body, field: f"({body[field]}:1.8) sky"}
    plain = {**changed, "prompt_weighting": False}
    first = ours(generator, changed)
    assert_changed(first, ours(generator, body))
    assert_changed(first, ours(generator, plain))

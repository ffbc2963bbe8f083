"""Helpers for comparisons of the flow families.

diffusers' pictures, weights as the web UI publishes them, and what none of these families can do.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers import DiffusionPipeline

from runtime.draw.generate import Generator
from tests.parity import assert_changed, ours

Spans: TypeAlias = tuple[tuple[str, float], ...]

SIZES = [(64, 64), (128, 96), (80, 112)]

REFUSALS = [
    ({"loras": [{"id": "style"}]}, "/loras", "cannot honour this field"),
    ({"negative_prompt": "blurry"}, "/negative_prompt", "cannot honour this field"),
    ({"clip_skip": 1}, "/clip_skip", "cannot honour this field"),
    ({"guidance_rescale": 0.5}, "/guidance_rescale", "cannot honour this field"),
    ({"guidance_interval": [0, 1]}, "/guidance_interval", "cannot honour this field"),
    ({"sampler": "euler_a"}, "/sampler", "is not one of euler"),
    ({"schedule": "karras"}, "/schedule", "is not one of default"),
    ({"width": 72}, "/width", "is no multiple of 16"),
    ({"height": 1040}, "/height", "is more than the maximum, 1024"),
]

# A prompt with weights, and the spans that it must be, which end where words do. These networks
# normalise what they read, so that weights which change no sign are seen in the embeddings alone.
WEIGHTED: list[tuple[str, Spans]] = [
    (
        "a (red:1.6) apple, [soft light]",
        (("a", 1.0), (" red", 1.6), (" apple,", 1.0), (" soft light", 1 / 1.1)),
    ),
    (
        "((two)) small BREAK (cats,:-2) on (a table:0)",
        (("two", 1.21), (" small", 1.0), (" cats,", -2.0), (" on", 1.0), (" a table", 0.0)),
    ),
]


@lru_cache(maxsize=3)
def pipeline_of(source: Path) -> DiffusionPipeline:
    pipeline = DiffusionPipeline.from_pretrained(source, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def reference(
    source: Path, body: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """diffusers' final latents `[1, C, h, w]` and pixels `[H, W, 3]`.

    `options` are its own; among them may be embeddings, and then a prompt that is None.
    """
    pipeline: Any = pipeline_of(source)
    with torch.no_grad():
        latents = pipeline(
            **{"prompt": body["prompt"], **options},
            width=body["width"],
            height=body["height"],
            num_inference_steps=body["steps"],
            generator=torch.Generator().manual_seed(body["seed"]),
            output_type="latent",
        ).images
        if latents.ndim == 3:  # packed, as FLUX.1's and Chroma's pipelines give them
            latents = pipeline._unpack_latents(
                latents, body["height"], body["width"], pipeline.vae_scale_factor
            )
        scaled = latents / pipeline.vae.config.scaling_factor + pipeline.vae.config.shift_factor
        decoded = pipeline.vae.decode(scaled).sample
    pixels = pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
    return latents.numpy(), np.asarray(pixels)


def body_of(
    prompt: str = "a photo of a red apple", size: tuple[int, int] = SIZES[0], steps: int = 4
) -> dict[str, Any]:
    width, height = size
    return {"prompt": prompt, "width": width, "height": height, "seed": 42, "steps": steps}


def token_weights(tokenizer: Any, spans: Spans) -> tuple[str, list[float]]:
    """The text of the spans, and the weight of each token."""
    text = "".join(words for words, _ in spans)
    ids: list[int] = []
    weights: list[float] = []
    for words, weight in spans:
        found = tokenizer(words, add_special_tokens=False).input_ids
        ids += found
        weights += [weight] * len(found)
    assert ids == tokenizer(text, add_special_tokens=False).input_ids, "a span ends inside a token"
    return text, weights


def emphasised(states: torch.Tensor, weights: list[float], before: int = 0) -> torch.Tensor:
    """The web UI's rule for `[L, D]`: multiply each token, restore the mean.

    `before` tokens come before those that have a weight; any others come after them.
    """
    after = len(states) - before - len(weights)
    every = torch.tensor([*[1.0] * before, *weights, *[1.0] * after])
    weighted = states * every[:, None]
    return weighted * (states.mean() / weighted.mean())


def assert_embedded(
    generator: Generator, body: Mapping[str, Any], name: str, expected: Sequence[torch.Tensor]
) -> None:
    """The conditioning `name` of each evaluation begins with those embeddings `[L, D]`."""
    found = generator.conditioning(generator.model.plan(generator.model.read(body)))
    for each, states in zip(found, expected, strict=True):
        embedded = each[name][0, : len(states)]
        scale = states.abs().max().item()
        np.testing.assert_allclose(embedded, states.numpy(), rtol=0, atol=1e-4 * scale)


def assert_weighs_on_request(generator: Generator) -> None:
    """Brackets are text unless a request says otherwise, and then only weights change anything."""
    asked = {"prompt_weighting": True}
    words, bracketed = body_of("a (red) apple"), body_of("a (red:-3) apple")
    weighted = ours(generator, {**bracketed, **asked})
    assert_changed(weighted, ours(generator, bracketed))
    assert_changed(weighted, ours(generator, {**body_of("a red apple"), **asked}))
    for unweighted in ("a \\(red\\) apple", "a \\(red\\) (apple:1.0)"):
        found = ours(generator, {**body_of(unweighted), **asked})
        np.testing.assert_array_equal(found[0], ours(generator, words)[0])

"""What the comparisons of the flow families share: diffusers' pictures, and what none can do."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

SIZES = [(64, 64), (128, 96), (80, 112)]

REFUSALS = [
    ({"loras": [{"id": "style"}]}, "/loras", "cannot honour this field"),
    ({"negative_prompt": "blurry"}, "/negative_prompt", "cannot honour this field"),
    ({"clip_skip": 1}, "/clip_skip", "cannot honour this field"),
    ({"guidance_rescale": 0.5}, "/guidance_rescale", "cannot honour this field"),
    ({"guidance_interval": [0, 1]}, "/guidance_interval", "cannot honour this field"),
    ({"prompt_weighting": True}, "/prompt_weighting", "cannot honour this field"),
    ({"sampler": "euler_a"}, "/sampler", "is not one of euler"),
    ({"schedule": "karras"}, "/schedule", "is not one of default"),
    ({"width": 72}, "/width", "is no multiple of 16"),
    ({"height": 1040}, "/height", "is more than the maximum, 1024"),
]


@lru_cache(maxsize=3)
def pipeline_of(source: Path) -> DiffusionPipeline:
    pipeline = DiffusionPipeline.from_pretrained(source, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def reference(
    source: Path, body: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """diffusers' final latents `[1, C, h, w]` and pixels `[H, W, 3]`; `options` are its own."""
    pipeline: Any = pipeline_of(source)
    with torch.no_grad():
        latents = pipeline(
            body["prompt"],
            width=body["width"],
            height=body["height"],
            num_inference_steps=body["steps"],
            generator=torch.Generator().manual_seed(body["seed"]),
            output_type="latent",
            **options,
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

"""Draws the evaluation's pictures with the diffusers pipeline."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

# Prompts and as many seeds to as many RGB pictures `[128, 128, 3]`.
Draw = Callable[[Sequence[str], Sequence[int]], list[Picture]]


def open_pipeline(folder: Path) -> StableDiffusionXLPipeline:
    """The pipeline with its fp16 weights widened to fp32, as a CPU runs it."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawer(
    pipeline: StableDiffusionXLPipeline, steps: int, guidance: float, size: int = 128
) -> Draw:
    """A function that draws one picture for each prompt and seed."""

    def draw(prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        output = pipeline(
            list(prompts),
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
            output_type="np",
        )
        return [np.asarray((picture * 255).round(), dtype=np.uint8) for picture in output.images]

    return draw

"""Measures what the LoRA does to pictures at several weights, loaded by diffusers from its file."""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from examples.demo_model.paths import LORAS, WORK
from examples.demo_model.scenes import sample_caption, sample_scene
from examples.demo_model.scoring import Picture
from examples.demo_model.train_lora import TRIGGER

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def chroma(picture: Picture) -> float:
    """The mean over pixels of the largest minus the smallest of R, G and B, in 0..255."""
    return float(np.mean(np.ptp(picture.astype(np.int16), axis=-1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", type=Path, default=WORK / "pipeline")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=41)
    arguments = parser.parse_args()
    random_source = random.Random(arguments.seed)
    prompts = [
        f"{sample_caption(sample_scene(random_source), random_source)}, {TRIGGER}"
        for _ in range(arguments.count)
    ]
    pipeline = StableDiffusionXLPipeline.from_pretrained(arguments.pipeline, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(LORAS, weight_name="monochrome.safetensors")
    (adapter,) = pipeline.get_list_adapters()["unet"]
    rows = []
    for weight in WEIGHTS:
        pipeline.set_adapters(adapter, weight)
        output = pipeline(
            prompts,
            height=128,
            width=128,
            num_inference_steps=20,
            guidance_scale=arguments.guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
            output_type="np",
        )
        pictures = [np.asarray((image * 255).round(), dtype=np.uint8) for image in output.images]
        mean = np.mean([chroma(picture) for picture in pictures])
        print(f"weight {weight}: mean chroma {mean:.1f}", flush=True)
        rows.append(np.concatenate(pictures[:8], axis=1))
    Image.fromarray(np.concatenate(rows)).save(WORK / "grid_lora.png")


if __name__ == "__main__":
    main()

"""Measures what the LoRA does to pictures at several weights, loaded by diffusers from its file."""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from examples.demo_model.drawing import Picture, drawer, open_pipeline
from examples.demo_model.paths import LORAS, WORK
from examples.demo_model.scenes import sample_caption
from examples.demo_model.train_lora import BASES, TRIGGER

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def chroma(picture: Picture) -> float:
    """The mean over pixels of the largest minus the smallest of R, G and B, in 0..255."""
    return float(np.mean(np.ptp(picture.astype(np.int16), axis=-1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", choices=BASES, default="demo")
    parser.add_argument("--pipeline", type=Path, default=WORK / "pipeline")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=WORK / "lora.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    random_source, base = random.Random(arguments.seed), BASES[arguments.base]
    prompts = [
        f"{sample_caption(base.sample(random_source), random_source)}, {TRIGGER}"
        for _ in range(arguments.count)
    ]
    pipeline = open_pipeline(arguments.pipeline)
    file_name = f"{arguments.base}-monochrome.safetensors"
    pipeline.load_lora_weights(LORAS, weight_name=file_name)
    (adapter,) = pipeline.get_list_adapters()["unet"]
    draw, means, rows = drawer(pipeline, arguments.steps, arguments.guidance), {}, []
    for weight in WEIGHTS:
        pipeline.set_adapters(adapter, weight)
        pictures = draw(prompts, range(len(prompts)))
        means[str(weight)] = float(np.mean([chroma(picture) for picture in pictures]))
        rows.append(np.concatenate(pictures[:8], axis=1))
        print(f"weight {weight}: mean chroma {means[str(weight)]:.1f}", flush=True)
    Image.fromarray(np.concatenate(rows)).save(WORK / "grid_lora.png")
    arguments.output.write_text(json.dumps({"mean chroma": means, "pictures": len(prompts)}))


if __name__ == "__main__":
    main()

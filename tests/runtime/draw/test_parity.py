"""The same picture as diffusers, from the same prompt, negative prompt and seed.

The reference is diffusers' own pipeline in fp32 with a CPU generator, on the folder that the
package was built from.
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from api.cli import main
from runtime.draw.generate import Generator
from runtime.plan.sampling.samplers import SAMPLERS
from tests.parity import assert_same, generator_of, ours

PROMPT = "a photo of a red apple, highly detailed"
NEGATIVE = "blurry, low quality"
SEED = 42
STEPS = 6

# What each of our samplers must equal, configured from the model's own scheduler file.
REFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpm++_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++_sde": ("DPMSolverSDEScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
}
CONSISTENCY = ("lcm", "tcd")
COMBINATIONS = [(name, way) for name, sampler in SAMPLERS.items() for way in sampler.schedules]

# Sizes, and whether guidance is on: the two sizes differ in both sides.
SHAPES = [(64, 96, 5.0), (128, 64, 1.0), (64, 96, 1.0), (128, 64, 5.0)]


class OurNoise:
    """Stands in for the Brownian tree of DPMSolverSDEScheduler: our two draws a step."""

    def __init__(self, generator: torch.Generator, shape: tuple[int, ...]) -> None:
        self._generator = generator
        self._shape = shape
        self._half: tuple[float, torch.Tensor] | None = None

    def __call__(self, start: Any, end: Any) -> torch.Tensor:
        start, end = float(start), float(end)
        drawn = torch.randn(self._shape, generator=self._generator)
        if self._half is None:
            self._half = (end, drawn)
            return drawn
        middle, first = self._half
        self._half = None
        share = (start - middle) / (start - end)
        return math.sqrt(share) * first + math.sqrt(1 - share) * drawn


def give_our_noise(scheduler: Any, noise: OurNoise) -> None:
    """Setting the timesteps forgets the noise sampler, so ours is put in place right after."""
    set_timesteps = scheduler.set_timesteps

    def set_timesteps_and_noise(*arguments: Any, **options: Any) -> None:
        set_timesteps(*arguments, **options)
        scheduler.noise_sampler = noise

    scheduler.set_timesteps = set_timesteps_and_noise


@lru_cache(maxsize=2)
def pipeline_of(source: Path) -> diffusers.StableDiffusionXLPipeline:
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(source, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def reference(source: Path, body: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """diffusers' final latents `[1, C, h, w]` and pixels `[H, W, 3]`."""
    pipeline = pipeline_of(source)
    class_name, options = REFERENCES[body["sampler"]]
    if body["schedule"] == "karras":
        options = {**options, "use_karras_sigmas": True}
    spaced = {"num_inference_steps": body["steps"]}
    if body["schedule"] == "sgm_uniform" and body["sampler"] in CONSISTENCY:
        # Neither class has trailing spacing: it is handed over, as on the cards of such models.
        euler = diffusers.EulerDiscreteScheduler(timestep_spacing="trailing")
        euler.set_timesteps(body["steps"])
        spaced = {"timesteps": euler.timesteps.int().tolist()}
    elif body["schedule"] == "sgm_uniform":
        options = {**options, "timestep_spacing": "trailing"}
    original = pipeline.scheduler
    generator = torch.Generator().manual_seed(body["seed"])
    shape = (1, 4, body["height"] // 8, body["width"] // 8)
    scheduler = getattr(diffusers, class_name).from_config(original.config, **options)
    if class_name == "DPMSolverSDEScheduler":
        give_our_noise(scheduler, OurNoise(generator, shape))
    try:
        pipeline.scheduler = scheduler
        with torch.no_grad():
            latents = pipeline(
                body["prompt"],
                negative_prompt=body["negative_prompt"],
                width=body["width"],
                height=body["height"],
                **spaced,
                # Of TCD; the pipeline would give that class 0, which is DDIM's.
                eta=0.3 if body["sampler"] == "tcd" else 0.0,
                guidance_scale=body["cfg_scale"],
                guidance_rescale=body.get("guidance_rescale", 0.0),
                clip_skip=body.get("clip_skip") or None,
                generator=generator,
                output_type="latent",
            ).images
            decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
            pixels = pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
    finally:
        pipeline.scheduler = original
    return latents.numpy(), np.asarray(pixels)


def body_of(sampler: str, schedule: str, shape: tuple[int, int, float]) -> dict[str, Any]:
    width, height, cfg_scale = shape
    return {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "width": width,
        "height": height,
        "seed": SEED,
        "steps": STEPS,
        "cfg_scale": cfg_scale,
        "sampler": sampler,
        "schedule": schedule,
    }


@pytest.fixture(params=["tiny", "tiny_v"])
def package(request: pytest.FixtureRequest) -> tuple[Path, Generator]:
    """A source that predicts epsilon, then one that predicts v; each with its open package."""
    source: Path = request.getfixturevalue(f"{request.param}_source")
    engines: Path = request.getfixturevalue(f"{request.param}_package")
    return source, generator_of(engines, request.param)


@pytest.mark.parametrize(("sampler", "schedule"), COMBINATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_same_latents_and_pixels_as_diffusers(
    package: tuple[Path, Generator], sampler: str, schedule: str, shape: tuple[int, int, float]
) -> None:
    source, generator = package
    body = body_of(sampler, schedule, shape)
    assert_same(ours(generator, body), reference(source, body))


@pytest.mark.parametrize(
    "fields",
    [
        {"negative_prompt": None},
        {"negative_prompt": ""},
        {"prompt": ""},
        {"clip_skip": 1},
        {"guidance_rescale": 0.7},
        {"steps": 1},
    ],
)
def test_same_in_the_corners(tiny_source: Path, tiny_package: Path, fields: dict[str, Any]) -> None:
    body = {**body_of("euler", "default", SHAPES[0]), **fields}
    generator = generator_of(tiny_package, "tiny")
    assert_same(ours(generator, body), reference(tiny_source, body))


@pytest.mark.parametrize("sampler", ["euler_a", "dpm++_2m_sde", "heun"])
def test_the_command_draws_what_diffusers_draws(
    tiny_source: Path, tiny_package: Path, tmp_path: Path, sampler: str
) -> None:
    body = body_of(sampler, "karras" if sampler == "heun" else "default", SHAPES[0])
    picture, latents = tmp_path / "picture.png", tmp_path / "latents.npy"
    flags = [
        f"--{name.replace('_', '-')}={value}" for name, value in body.items() if name != "prompt"
    ]
    model = ["--model", "tiny", "--engines", str(tiny_package)]
    outputs = ["-o", str(picture), "--latents", str(latents)]
    assert main(["generate", PROMPT, *flags, *model, *outputs]) == 0
    found = np.load(latents), np.asarray(Image.open(picture))
    assert found[0].dtype == np.float32
    assert_same(found, reference(tiny_source, body))

"""An estimate, told beforehand, of the time and memory that a reference takes on the CPU.

A network's work is taken as 2 operations for each of its parameters at each position. A transformer
uses every parameter at every position, which are its tokens. The layers of a convolutional network
see pictures of different sizes; its number of positions is fitted to its known work.
"""

import math
from collections.abc import Sequence

from engine_build.target.capture import plans_of
from runtime.machine import usable_cores
from runtime.package.manifest import Manifest, ModelPackage
from runtime.plan.model import model_of
from runtime.plan.plan import Plan

# SDXL at 1024x1024 takes some 12 TFLOP a guided step. At 512x512, a quarter of that took 35 s on 2
# cores (benchmarks/results/real_step_sdxl.json).
FLOPS_PER_CORE = 12e12 / 4 / 35.05 / 2

# Pixels for each position. A transformer's: a patch of 2x2 latents of 8x8 pixels each. SDXL's UNet:
# 2.57e9 parameters, and the work above for two evaluations. The decoder of its VAE, which the other
# families' resemble: 49.5e6 parameters, and 4.68e6 multiplications a pixel, counted by layers.
TRANSFORMER, UNET, VAE = 256, 900, 10.6

# Measured on 2 cores with products of 4096x4096 in fp16, transposed and widened in every call.
WIDENING_SECONDS = 6e-9

_KERNEL = 4
"""Axes of a convolution's weights."""


# Beside mapped weights, SDXL of published size took at most 2.72 GB at 512x512, in the decoder of
# its VAE (the denoiser 1.37), which took 6.15 GB at 1024x1024. The decoder's attention has a score
# for each pair of latents, in fp32, before and after the softmax; the rest is fitted to the two.
BYTES_AT_LEAST = 2.1e9
BYTES_PER_PIXEL = 1.8e3
BYTES_PER_PAIR = 8
_LATENT_PIXELS = 64


def forecast(package: ModelPackage, sizes: Sequence[tuple[int, int]]) -> str:
    """A sentence on the time and the memory, for people."""
    cores = len(usable_cores())
    plans = plans_of(model_of(package), sizes)
    minutes = seconds(package.manifest, plans, cores) / 60
    largest = max(record.weights_bytes for record in package.manifest.roles.values())
    beside = max(memory_bytes(width * height) for width, height in sizes)
    return (
        f"the reference is drawn in fp32 on the CPU, one network at a time: some {minutes:.1f} "
        f"minutes on {cores} cores, with {beside / 1e9:.1f} GB of memory beside a file of weights "
        f"of {largest / 1e9:.1f} GB that is mapped (estimates)"
    )


def memory_bytes(pixels: int) -> float:
    """The memory that a picture of so many pixels takes, in bytes, beside the weights."""
    pairs = (pixels / _LATENT_PIXELS) ** 2
    return BYTES_AT_LEAST + BYTES_PER_PIXEL * pixels + BYTES_PER_PAIR * pairs


def seconds(manifest: Manifest, plans: Sequence[Plan], cores: int) -> float:
    """Seconds that all roles take for these pictures, on so many cores."""
    work = widened = 0.0
    for role, record in manifest.roles.items():
        shapes = [each.shape for each in record.parameters.values()]
        parameters = sum(math.prod(shape) for shape in shapes)
        convolves = any(len(shape) == _KERNEL for shape in shapes)
        calls, positions = _use(role, manifest, plans, convolves=convolves)
        work += 2 * parameters * positions
        widened += parameters * calls
    return work / (FLOPS_PER_CORE * cores) + widened * WIDENING_SECONDS


def _use(
    role: str, manifest: Manifest, plans: Sequence[Plan], *, convolves: bool
) -> tuple[int, float]:
    """A role's number of calls, and of positions at which they use its parameters in all."""
    pixels = [plan.request.width * plan.request.height for plan in plans]
    if role == "denoiser":
        evaluations = [sum(len(mix) for mix in plan.mixes) for plan in plans]
        shown = sum(size * each for size, each in zip(pixels, evaluations, strict=True))
        return sum(plan.rows for plan in plans), shown / (UNET if convolves else TRANSFORMER)
    if role == "vae_decoder":
        return len(plans), sum(pixels) / VAE
    if role == "preview_decoder":
        steps = [plan.steps for plan in plans]
        return sum(steps), sum(map(int.__mul__, pixels, steps)) / VAE
    prompts = {prompt for plan in plans for prompt in plan.prompts}
    tokens = max(each.max_length for each in manifest.tokenizers.values())
    return len(prompts), len(prompts) * tokens

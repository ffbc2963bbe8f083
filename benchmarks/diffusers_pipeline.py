"""diffusers' pipeline as its users run it: opened once, in inference mode, in fp32 on the CPU.

PyTorch's threads wait for each other many times a picture. On a machine that others use too, a
thread that spins while it waits takes the time of the one that it waits for: two threads then took
36 s for a picture that one draws in 1.1 s. So they are told not to spin
(`benchmarks.server_process.child_environment`), as ONNX Runtime's are, and the number of threads is
the faster of one and one a core, as measured.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL.Image import Image

from runtime.machine import usable_cores

TRIALS = 3


def opened(source: Path, *, compiled: bool = False) -> Any:
    """Pipeline of a diffusers folder, silent.

    With `compiled` the denoiser goes through `torch.compile`; its first picture compiles it.
    """
    pipeline = DiffusionPipeline.from_pretrained(source, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    if compiled:
        pipeline.unet = torch.compile(pipeline.unet)
    return pipeline


def fastest_threads(pipeline: Any, body: Mapping[str, Any]) -> dict[int, float]:
    """Median seconds of a request's picture by number of threads, the fastest first.

    PyTorch is left with the fastest number.
    """
    found = {}
    for threads in {1, len(usable_cores())}:
        torch.set_num_threads(threads)
        call(pipeline, [body])
        found[threads] = median(_seconds(pipeline, body) for _ in range(TRIALS))
    ordered = dict(sorted(found.items(), key=lambda each: each[1]))
    torch.set_num_threads(next(iter(ordered)))
    return ordered


def _seconds(pipeline: Any, body: Mapping[str, Any]) -> float:
    began = time.perf_counter()
    call(pipeline, [body])
    return time.perf_counter() - began


def call(
    pipeline: Any,
    bodies: Sequence[Mapping[str, Any]],
    *,
    callback: Callable[[], None] | None = None,
) -> list[Image]:
    """Pictures of requests that have size, steps and guidance in common, in one call.

    `callback` is called after each step. The scheduler is the folder's own.
    """
    first = bodies[0]

    def stepped(_pipeline: Any, _step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if callback:
            callback()
        return tensors

    with torch.inference_mode():
        images: list[Image] = pipeline(
            prompt=[body["prompt"] for body in bodies],
            width=first["width"],
            height=first["height"],
            num_inference_steps=first["steps"],
            guidance_scale=first["cfg_scale"],
            generator=[torch.Generator().manual_seed(body["seed"]) for body in bodies],
            callback_on_step_end=stepped,
        ).images
    return images

"""Measures diffusers' own pipeline on a checkpoint: eager, and with its denoiser compiled.

    python -m benchmarks.diffusers_pictures FOLDER --size 1024 --steps 30

draws pictures to pixels by the pipeline that FOLDER names, on the GPU where there is one, as its
users do: eager first, then with the denoiser through `torch.compile`, in one mode after the other.
`default` fuses, `reduce-overhead` also replays CUDA graphs, and `max-autotune`, which is to be
asked for, takes many minutes to choose its kernels. The first pictures of each mode are not in the
median. A mode that fails is recorded with its reason.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import DiffusionPipeline

from benchmarks.machine import write
from benchmarks.serving import NEGATIVE, PROMPT

WARM = 2
"""Number of pictures before those that count."""


def main() -> None:
    """Measure, print, and write the result after each mode."""
    arguments = _parser().parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # A CPU has no kernels of 16 bits for every operator: there the script is only rehearsed.
    dtype = getattr(torch, arguments.dtype) if device == "cuda" else torch.float32
    began = time.perf_counter()
    pipeline = DiffusionPipeline.from_pretrained(arguments.source, torch_dtype=dtype).to(device)
    pipeline.set_progress_bar_config(disable=True)
    result: dict[str, Any] = {
        "source": str(arguments.source),
        "size": arguments.size,
        "steps": arguments.steps,
        "device": device,
        "dtype": str(dtype),
        "load_seconds": round(time.perf_counter() - began, 2),
    }

    def keep() -> None:
        if arguments.output:
            write(result, arguments.output)

    result["eager"] = tried(pipeline, arguments)
    print("eager", result["eager"], flush=True)
    keep()
    denoiser = getattr(pipeline, arguments.denoiser)
    if arguments.denoiser == "unet":
        denoiser.to(memory_format=torch.channels_last)
    result["compiled"] = {}
    for mode in arguments.modes:
        # Not fullgraph: a denoiser that breaks its graph runs all the same.
        compiled = torch.compile(denoiser, mode=mode)
        setattr(pipeline, arguments.denoiser, compiled)
        result["compiled"][mode] = tried(pipeline, arguments)
        print(mode, result["compiled"][mode], flush=True)
        keep()


def tried(pipeline: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """As `measured`, or the reason why nothing could be drawn."""
    try:
        return measured(pipeline, arguments)
    except Exception as error:
        # A compiler that is not whole on this machine must not cost the other figures.
        return {"failed": f"{type(error).__name__}: {error}"[:2000]}


def measured(pipeline: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of pictures to pixels and to latents, those of the first pictures apart."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    warm = [_seconds(pipeline, arguments, "np") for _ in range(WARM)]
    drawn = [_seconds(pipeline, arguments, "np") for _ in range(arguments.pictures)]
    latents = [_seconds(pipeline, arguments, "latent") for _ in range(arguments.pictures)]
    return {
        "first_s": round(warm[0], 3),
        "picture_s": round(median(drawn), 4),
        "to_latents_s": round(median(latents), 4),
        "each_s": [round(each, 4) for each in drawn],
        **_memory(),
    }


def _memory() -> dict[str, int]:
    """The most bytes that PyTorch held on the GPU."""
    if not torch.cuda.is_available():
        return {}
    return {"device_memory": torch.cuda.max_memory_reserved()}


def _seconds(pipeline: Any, arguments: argparse.Namespace, output_type: str) -> float:
    wish: dict[str, Any] = {
        "prompt": PROMPT,
        "width": arguments.size,
        "height": arguments.size,
        "num_inference_steps": arguments.steps,
        "guidance_scale": arguments.guidance,
        "output_type": output_type,
        "generator": torch.Generator().manual_seed(0),
    }
    if arguments.negative:
        wish["negative_prompt"] = NEGATIVE
    if arguments.tokens:
        wish["max_sequence_length"] = arguments.tokens
    began = time.perf_counter()
    with torch.inference_mode():
        pipeline(**wish)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="a folder that diffusers saved")
    parser.add_argument("--size", type=int, default=1024, help="of a side; default: 1024")
    parser.add_argument("--steps", type=int, default=30, help="default: 30")
    parser.add_argument("--guidance", type=float, default=7.0, help="default: 7")
    parser.add_argument("--negative", action="store_true", help="with a negative prompt")
    parser.add_argument("--tokens", type=int, help="max_sequence_length; default: the pipeline's")
    parser.add_argument("--dtype", default="float16", help="on a GPU; default: float16")
    parser.add_argument(
        "--denoiser", default="unet", help="its name in the pipeline; default: unet"
    )
    parser.add_argument(
        "--modes",
        type=lambda text: text.split(","),
        default=["default", "reduce-overhead"],
        metavar="MODE,...",
        help="of torch.compile; default: default,reduce-overhead",
    )
    parser.add_argument("--pictures", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: none")
    return parser


if __name__ == "__main__":
    main()

"""Measures a call of the step graph by the number of evaluations in it, and a change of LoRAs.

    python -m benchmarks.step_times --model demo --sizes 128 256

takes turns through all sizes and numbers of samples, so that the load of the machine falls on all
of them alike, and writes the medians as a table that `benchmarks.policy` reads.
"""

import argparse
import sys
import time
from collections import defaultdict
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from benchmarks.frame import RESULTS
from benchmarks.machine import write
from runtime.backends.catalog import choose, open_backend
from runtime.backends.devices import find_devices
from runtime.backends.protocol import Denoiser
from runtime.backends.wishes import BackendWish
from runtime.draw.denoise import Prepared, Sample
from runtime.draw.generate import Generator
from runtime.draw.lora.switch import LoraSwitch
from runtime.package.pack import LoraSet
from runtime.plan.model import open_model
from runtime.plan.served import served_by

SAMPLES = (1, 2, 4, 8)


def main() -> int:
    """Measure, print, and write the table."""
    arguments = _parser().parse_args()
    result = measured(arguments)
    for row in result["times"]:
        milliseconds = row["seconds"] * 1e3
        print(f"{row['size']:5} {row['evaluations']:3} evaluations  {milliseconds:9.2f} ms")
    print(f"a change of LoRAs: {result['change_seconds'] * 1e3:.1f} ms")
    folder = RESULTS / f"step_times_{arguments.model}_{result['backend']}.json"
    write(result, arguments.output or folder)
    return 0


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """The table of an open model: seconds of a call by size and evaluations."""
    wish: BackendWish = arguments.backend
    model = open_model(arguments.engines, arguments.model)
    choice = choose(model.package, wish, find_devices())
    backend = open_backend(model.package, choice)
    generator = Generator(model, backend, served=served_by(choice.target, model.package.manifest))
    denoiser, noise = backend.open_denoiser(), ThreadPoolExecutor(1)
    seconds: dict[tuple[int, int], list[float]] = defaultdict(list)
    pictures = {
        (size, number): generator.prepare(
            model.plan(model.read({"prompt": f"a red apple {number}", "seed": number,
                                   "width": size, "height": size, "steps": 40}))
        )
        for size in arguments.sizes
        for number in range(max(SAMPLES))
    }  # fmt: skip
    for _ in tqdm(range(arguments.repeats), desc="turns"):
        for size in arguments.sizes:
            for samples in SAMPLES:
                together = [pictures[size, number] for number in range(samples)]
                evaluations = sum(len(each.plan.mixes[0]) for each in together)
                seconds[size, evaluations].append(_call(denoiser, together, noise))
    return {
        "model": arguments.model,
        "backend": choice.backend,
        "device": choice.device,
        "origin": "measured",
        "repeats": arguments.repeats,
        "times": [
            {"size": size, "evaluations": evaluations, "seconds": round(median(taken), 6)}
            for (size, evaluations), taken in sorted(seconds.items())
        ],
        "change_seconds": round(_change(generator, denoiser, arguments.repeats), 6),
    }


def _call(denoiser: Denoiser, pictures: list[Prepared], noise: Executor) -> float:
    """Seconds of a call, after one that is not counted."""
    # The noise of a picture can be drawn once.
    fresh = [Prepared(picture.plan, picture.conditioning) for picture in pictures]
    samples = [Sample(picture, denoiser, noise) for picture in fresh]
    _advance(denoiser, samples)
    began = time.perf_counter()
    _advance(denoiser, samples)
    seconds = time.perf_counter() - began
    for sample in samples:
        denoiser.release(sample.slot)
    return seconds


def _advance(denoiser: Denoiser, samples: list[Sample]) -> None:
    denoiser.advance([sample.next_row() for sample in samples])
    denoiser.latents(samples[0].slot)()  # waits for a device
    for sample in samples:
        sample.row += 1


def _change(generator: Generator, denoiser: Denoiser, repeats: int) -> float:
    """Median seconds of putting another LoRA set on, of two that were used before."""
    offers = generator.model.loras()[:1]
    if not offers:
        return 0.0
    sets: list[LoraSet] = [
        generator.model.plan(
            generator.model.read(
                {"prompt": "x", "seed": 1, "loras": [{"id": offers[0].id, "weight": weight}]}
            )
        ).loras
        for weight in (0.5, 1.0)
    ]
    switch = LoraSwitch(generator.effective_weights, "denoiser", denoiser)
    taken = []
    for turn in range(2 * repeats + 2):
        generator.effective_weights.open(sets[turn % 2])
        began = time.perf_counter()
        switch.apply(sets[turn % 2])
        taken.append(time.perf_counter() - began)
    return median(taken[2:])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", type=Path, default=Path("engines"))
    parser.add_argument("--model", default="demo")
    parser.add_argument("--backend", default="onnxruntime-cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], metavar="PIXELS")
    parser.add_argument("--repeats", type=int, default=25, help="turns; default: 25")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: in results/")
    return parser


if __name__ == "__main__":
    sys.exit(main())

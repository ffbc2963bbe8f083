"""Measures pictures with LoRAs in this process: a change of LoRAs, and the steps after that.

    python -m benchmarks.lora_pictures --model sdxl --size 1024

draws pictures with one LoRA and another one in turn, each twice. The first of the two has the
change in it and the second has not, so that the difference is the change as a picture meets it,
with all that the device does, and the bytes that the change uploads. Their steps are held to those
of pictures without a LoRA. The LoRAs are random, first on matrices alone, as most published LoRAs
are, and then on the kernels of convolutions too. Nothing is written into the package, and weights
are computed at every change.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.frame import RESULTS, Figure, benchmark_parser, keep
from benchmarks.pictures import Wanted, draw, opened_generator
from benchmarks.random_loras import random_pack
from runtime.backends.protocol import SPARE, OnDevice
from runtime.backends.wishes import WISHES
from runtime.draw.generate import Generator
from runtime.package.pack import LoraSet
from runtime.wire.options import DrawOptions

KINDS = {"matrices": False, "matrices and kernels": True}
"""Kinds of LoRAs; True for those that change the kernels of convolutions too."""


def main() -> None:
    """Measure, print, and write the result after each kind of LoRAs."""
    arguments = _parser().parse_args()
    output = arguments.output or RESULTS / f"lora_pictures_{arguments.model}.json"
    options = DrawOptions(lora_bytes=0)
    generator, opened = opened_generator(
        arguments.engines, arguments.model, arguments.backend, captures=True, options=options
    )
    result: dict[str, Any] = {
        "model": arguments.model,
        "size": arguments.size,
        "steps": arguments.steps,
        "rank": arguments.rank,
        **opened,
        "kinds": {},
    }
    wanted = Wanted(arguments.size, arguments.steps)
    for title, kernels in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            package = generator.model.package
            pack = partial(random_pack, package, rank=arguments.rank, kernels=kernels)
            sets: list[LoraSet] = [((pack(Path(folder), seed=seed), 1.0),) for seed in range(2)]
            found = compared(generator, wanted, sets, arguments.repetitions)
        result["kinds"][title] = found
        keep(result, output, _figures(result["kinds"]))
        print(title, " ".join(f"{name} {value}" for name, value in found.items()), flush=True)


def compared(
    generator: Generator, wanted: Wanted, sets: list[LoraSet], repetitions: int
) -> dict[str, Any]:
    """Figures of changes between LoRA sets, in milliseconds; `share` is of a step without LoRAs."""
    body = wanted.body(generator.model, 0)
    picture = partial(_picture, generator, body)
    # The first pictures open what LoRAs need, and graphs of the device are captured.
    none: LoraSet = ()
    began = time.perf_counter()
    picture(loras=sets[0])
    opening = time.perf_counter() - began
    for loras in (none, sets[0], sets[0], sets[1], none, none):
        picture(loras=loras)
    changed: list[Mapping[str, float]] = []
    kept: list[Mapping[str, float]] = []
    without: list[Mapping[str, float]] = []
    for _ in range(repetitions):
        for loras in sets:
            changed.append(picture(loras=loras))
            kept.append(picture(loras=loras))
        picture(loras=none)
        without.append(picture(loras=none))
    # Each pair is of the same LoRAs, but for the first change of a repetition, from none.
    changes, uploaded = (
        [after[name] - again[name] for after, again in zip(changed, kept, strict=True)]
        for name in ("to_latents_ms", "uploaded_mb")
    )
    steps = {"with": kept, "without": without}
    step_ms = {name: median(each["step_ms"] for each in those) for name, those in steps.items()}
    return {
        "first_picture_ever_ms": round(1e3 * opening, 1),
        "change_ms": round(median(changes), 3),
        "each_change_ms": [round(each, 3) for each in changes],
        "largest_change_ms": round(max(changes), 3),
        "uploaded_mb": round(median(uploaded), 3),
        "bases_kept_mb": round(_kept_mb(generator), 3),
        "step_ms_with": round(step_ms["with"], 3),
        "step_ms_without": round(step_ms["without"], 3),
        "share": round(step_ms["with"] / step_ms["without"] - 1, 5),
    }


def _picture(generator: Generator, body: dict[str, Any], loras: LoraSet) -> Mapping[str, float]:
    """Milliseconds of a picture, and the megabytes that were uploaded to a GPU for it."""
    backend = generator.backend
    before = backend.uploaded_bytes() if isinstance(backend, OnDevice) else 0
    found, _ = draw(generator, body, loras=loras)
    after = backend.uploaded_bytes() if isinstance(backend, OnDevice) else 0
    return {**found, "uploaded_mb": (after - before) / 1e6}


def _kept_mb(generator: Generator) -> float:
    """Megabytes of the package's own weights that a GPU keeps for changes of LoRAs."""
    backend = generator.backend
    return backend.device_memory().get(SPARE, 0) / 1e6 if isinstance(backend, OnDevice) else 0.0


def _figures(kinds: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    return {
        f"{title}: change": Figure("ms", tuple(found["each_change_ms"]))
        for title, found in kinds.items()
    } | {
        f"{title}: step {each} a LoRA": Figure("ms", (found[f"step_ms_{each}"],))
        for title, found in kinds.items()
        for each in ("with", "without")
    }


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--model", default="demo", help="a package's name; default: demo")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="default: engines")
    parser.add_argument("--backend", choices=WISHES, default="auto", help="default: auto")
    parser.add_argument("--size", type=int, default=1024, help="of a side; default: 1024")
    parser.add_argument("--steps", type=int, default=10, help="default: 10")
    parser.add_argument("--rank", type=int, default=16, help="of the LoRAs; default: 16")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="default: 5")
    return parser


if __name__ == "__main__":
    main()

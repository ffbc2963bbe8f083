"""Measures the change from one LoRA to another, and the cost of a step with a LoRA.

    python -m benchmarks.lora --model demo --engines engines

makes two random LoRAs on every matrix and kernel of the denoiser and times the changes between
them: with effective weights that are computed anew, and with weights kept from before. Beside each
time stand the bytes that the change moved, and the time of copying as many in this machine's
memory. Last come prompts that are encoded, and prompts whose conditioning was kept. Nothing is
written into the package. `--backend` measures the engines of a target, on their GPU.

    python -m benchmarks.lora --published-size

measures the weights of SDXL's UNet at its published size, random numbers in fp16. This needs 5 GB
of disk while running, and 12 GB of memory. No network is opened: timed are the computing and
handing over of a set's effective weights, which is all that a change takes of ONNX Runtime's
engine.

Every time is given by the clock and as processor time. The two are the same on a machine that does
nothing else; where other processes share the machine, processor time is the cost of the work
itself.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.frame import RESULTS, Figure, benchmark_parser, keep
from benchmarks.pictures import generator_on
from benchmarks.random_loras import ROLE, link_graphs, matrices, random_pack
from runtime.backends.low_rank import Weights, base_of
from runtime.backends.rows import CPU
from runtime.backends.wishes import WISHES
from runtime.draw.generate import Generator
from runtime.draw.lora.switch import Adaptable, LoraSwitch
from runtime.draw.lora.weights import EffectiveWeights
from runtime.package.manifest import ModelPackage, Parameter, read_package
from runtime.package.pack import LoraPack, LoraSet
from runtime.plan.model import open_model
from runtime.plan.plan import Plan
from runtime.wire.options import DrawOptions


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds of a piece of work; medians where the work was repeated."""

    clock: float
    processor: float


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of change between LoRAs, over its repetitions."""

    title: str
    milliseconds: float
    processor_milliseconds: float
    worst_milliseconds: float
    moved_mb: float
    """Megabytes of base weights read and of effective weights written, both as stored."""
    copied_in_milliseconds: float
    """Milliseconds that this machine's memory takes to copy as many bytes."""


def main() -> None:
    """Measure, print a table, and write the result."""
    arguments = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure = _published_size if arguments.published_size else _with_engines
        measured, times = measure(Path(folder), arguments)
    result = {
        **measured,
        "rank": arguments.rank,
    }
    _print(result)
    output = arguments.output or RESULTS / f"lora_{result['model']}.json"
    figures = {
        title: Figure("ms", tuple(one.clock for one in each)) for title, each in times.items()
    }
    keep(result, output, figures)


class _Holder:
    """Stand-in for a network: holds the weights it is given, as ONNX Runtime's engine does."""

    def replace_weights(self, weights: Weights) -> None:
        self.weights = weights


Times = dict[str, list[Took]]
"""All times of repeated pieces of work, by their titles."""


def _published_size(folder: Path, arguments: argparse.Namespace) -> tuple[dict[str, Any], Times]:
    # This import loads PyTorch, which the benchmark of a built model does without.
    from benchmarks.real_size import write_weights

    shapes = write_weights("sdxl", "unet", folder)
    package = _unet_alone(read_package(arguments.engines, arguments.model), folder, shapes)
    packs = _random_packs(package, folder, arguments.rank)
    effective = EffectiveWeights(package, 0)
    opened, changes, times = _changes(_Holder(), effective, packs, arguments.repetitions)
    shared = _shared(package, packs, opened, changes)
    return {"model": "sdxl", "backend": "none", **shared}, times


def _unet_alone(
    like: ModelPackage, folder: Path, shapes: Mapping[str, tuple[int, ...]]
) -> ModelPackage:
    """Package that consists of the UNet's weights alone."""
    parameters = {name: Parameter(name, shape, "F16") for name, shape in shapes.items()}
    role = replace(like.manifest.roles[ROLE], weights="unet.safetensors", parameters=parameters)
    manifest = replace(like.manifest, name="sdxl", roles={**like.manifest.roles, ROLE: role})
    link_graphs(like, folder)
    return ModelPackage(folder, manifest, digest="")


def _with_engines(folder: Path, arguments: argparse.Namespace) -> tuple[dict[str, Any], Times]:
    model = open_model(arguments.engines, arguments.model)
    package = model.package
    packs = _random_packs(package, folder, arguments.rank)
    options = DrawOptions(lora_bytes=0)
    generator, choice = generator_on(
        model, arguments.backend, threads=arguments.threads, options=options
    )
    backend = generator.backend
    effective = EffectiveWeights(package, 0, factored=backend.multiplies_updates)
    opened, changes, times = _changes(backend.open(ROLE), effective, packs, arguments.repetitions)
    each_step = _steps(generator, packs[0], arguments.repetitions)
    steps = {name: _median(each) for name, each in each_step.items()}
    times |= {f"a step {name} a LoRA": each for name, each in each_step.items()}
    picture = steps["with"].clock * package.manifest.defaults.steps
    prompts = _prompts(generator, arguments.repetitions)
    result = {
        "model": arguments.model,
        "backend": choice.backend,
        "target": choice.target_name,
        "device": choice.device,
        **_shared(package, packs, opened, changes),
        "step_ms": {name: asdict(each) for name, each in steps.items()},
        "change_at_every_job": round(changes[1].milliseconds / picture, 4),
        "prompt_ms": {name: asdict(each) for name, each in prompts.items()},
        "threads": arguments.threads or "as many as there are cores",
    }
    return result, times


def _shared(
    package: ModelPackage, packs: list[LoraPack], opened: Took, changes: list[Change]
) -> dict[str, Any]:
    """Figures that both kinds of results have."""
    return {
        "parameters": sum(_size(each.shape) for each in matrices(package).values()),
        "targets": len(packs[0].record.targets),
        "first_lora_ever_ms": asdict(_median([opened])),
        "changes": [asdict(change) for change in changes],
    }


def _random_packs(package: ModelPackage, folder: Path, rank: int) -> list[LoraPack]:
    return [random_pack(package, folder, rank, seed) for seed in range(2)]


def _changes(
    network: Adaptable, effective: EffectiveWeights, packs: list[LoraPack], repetitions: int
) -> tuple[Took, list[Change], Times]:
    """Time of the first LoRA of a process, and the changes after that one with all their times."""
    anew = LoraSwitch(effective, ROLE, network)
    none: LoraSet = ()
    a, b = (((pack, 1.0),) for pack in packs)
    opened = _timed(lambda: anew.apply(a))
    moved = 2 * sum(base_of(each).size_bytes for each in effective.of(a, ROLE).values())
    copying = _copying(moved)
    # With a budget of 0 bytes only the newest set is kept: B drives A out, and the base drives out
    # nothing. So every computed change costs the same work, whatever set came before.
    titles = ("base to A, computed", "A to B, computed", "B to base", "base to B, kept")
    times: Times = {title: [] for title in titles}
    for _ in range(repetitions):
        for loras in (b, none):
            anew.apply(loras)
        for title, loras in zip(titles, (a, b, none, b), strict=True):
            times[title].append(_timed(partial(anew.apply, loras)))
    changes = []
    for title, each in times.items():
        computed = title.endswith("computed")
        took = _median(each)
        changes.append(
            Change(
                title,
                took.clock,
                took.processor,
                round(max(one.clock for one in each), 2),
                round(moved / 1e6, 2) if computed else 0.0,
                round(copying, 2) if computed else 0.0,
            )
        )
    return opened, changes, times


def _steps(generator: Generator, pack: LoraPack, repetitions: int) -> Times:
    """Times of a step of the default picture, without and with a LoRA on every matrix."""
    model = generator.model
    without = model.plan(model.read({"prompt": "a red heart", "seed": 1, "steps": 8}))
    plans = {"without": without, "with": replace(without, loras=((pack, 1.0),))}
    times: Times = {name: [] for name in plans}
    for _ in range(repetitions):
        for name, plan in plans.items():
            times[name] += _step_times(generator, plan)
    return times


def _step_times(generator: Generator, plan: Plan) -> list[Took]:
    steps = generator.steps(plan)
    # The first step also encodes the prompts and applies the LoRA.
    next(steps)
    return [_timed(lambda: next(steps)) for _ in range(plan.steps - 1)]


def _prompts(generator: Generator, repetitions: int) -> dict[str, Took]:
    """Time of conditioning for two prompts of one chunk each: encoded, and kept from before."""
    model = generator.model
    times: dict[str, list[Took]] = {"encoded": [], "kept": []}
    for number in range(repetitions):
        wish = {"prompt": f"a red heart, {number}", "negative_prompt": f"a blue cat, {number}"}
        plan = model.plan(model.read(wish))
        for each in times.values():
            each.append(_timed(partial(generator.conditioning, plan)))
    return {name: _median(each) for name, each in times.items()}


def _copying(size_bytes: int) -> float:
    """Milliseconds to copy half of `size_bytes`: each copied byte is read once and written once."""
    source = np.ones(size_bytes // 2, np.uint8)
    target = np.empty_like(source)
    return min(_timed(lambda: np.copyto(target, source)).clock for _ in range(5))


def _timed(work: Callable[[], object]) -> Took:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return Took(1e3 * (time.perf_counter() - clock), 1e3 * (time.process_time() - processor))


def _median(times: Sequence[Took]) -> Took:
    return Took(
        round(median(each.clock for each in times), 2),
        round(median(each.processor for each in times), 2),
    )


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _print(result: dict[str, Any]) -> None:
    print(
        f"{result['model']} on {result['backend']}: {result['targets']} matrices and kernels, "
        f"{result['parameters'] / 1e6:.2f} M numbers, rank {result['rank']}"
    )
    titles = ("median ms", "processor", "worst ms", "moved MB", "copy ms")
    print("change".ljust(24) + "".join(f"{title:>11}" for title in titles))
    for change in result["changes"]:
        print(
            f"{change['title']:<24}{change['milliseconds']:>11.2f}"
            f"{change['processor_milliseconds']:>11.2f}{change['worst_milliseconds']:>11.2f}{change['moved_mb']:>11.2f}"
            f"{change['copied_in_milliseconds']:>11.2f}"
        )
    parts = {"the first LoRA of a process": result["first_lora_ever_ms"]}
    parts |= {f"a step {name} a LoRA": each for name, each in result.get("step_ms", {}).items()}
    parts |= {f"two prompts, {name}": each for name, each in result.get("prompt_ms", {}).items()}
    for title, each in parts.items():
        print(f"{title} takes {each['clock']:.2f} ms, {each['processor']:.2f} of the processor")
    if (share := result.get("change_at_every_job")) is not None:
        print(f"changing to another LoRA at every job adds {100 * share:.1f} % to its steps")


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--model", default="demo", help="the model package; default: demo")
    parser.add_argument("--engines", type=Path, default=Path("engines"), metavar="DIR")
    parser.add_argument("--backend", choices=WISHES, default=CPU, help=f"default: {CPU}")
    parser.add_argument("--rank", type=int, default=16, help="of the LoRAs; default: 16")
    parser.add_argument("--repetitions", type=int, default=20, metavar="N")
    parser.add_argument("--published-size", action="store_true", help="SDXL's UNet, weights alone")
    parser.add_argument("--threads", type=int, metavar="N", help="of ONNX Runtime; default: cores")
    return parser


if __name__ == "__main__":
    main()

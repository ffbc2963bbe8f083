"""Measures a step of a model's denoiser on a GPU: its kernels by kind, and the gaps between them.

    python -m benchmarks.kernels --model sdxl --engines engines --steps 30

opens the engines in this process, times some pictures by the clock, with `--previews` also with a
preview of every step, and then runs a few steps under PyTorch's profiler. The profiler sees every
kernel of the process, including those that a CUDA graph launches; `--no-cuda-graphs` launches every
kernel by itself. A gap is time in which no kernel runs, between the first kernel of a step and the
first kernel of the next. The profiler makes launches slower, so the share of gaps is stated twice:
as the profiler saw the gaps, and as the time of an unprofiled step that its kernels leave.

PyTorch is needed for the profiler alone; `--profiled 0` does without.
"""

import argparse
import json
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.frame import RESULTS, Figure, benchmark_parser, keep
from benchmarks.pictures import Wanted, draw, draw_with_previews, opened_generator, sampled
from runtime.backends.protocol import OnDevice
from runtime.backends.wishes import WISHES
from runtime.draw.generate import Generator

KINDS = {
    "attention": r"sdpa|fmha|flash|attention",
    "convolution": r"conv|fprop|implicit_gemm|nchwtonhwc|nhwctonchw",
    "GatedSumNorm": r"gated_sum_norm",
    "RotatedHeads": r"rotated_heads",
    "GatedActivation": r"gated_activation",
    "matrix product": r"gemm|nvjet|cutlass|splitk(?!ernel)|cublas",
    "layer norm": r"layernorm",
    "group norm": r"groupnorm",
    "GELU": r"gelu",
    "Split": r"split",
    "cast": r"op_cast|cast",
    "Add, broadcast (a bias)": r"binaryelementwise(?!simple).*op_add|perchannel.*op_add",
    "Add": r"op_add|add",
    "Mul": r"op_mul|mul",
    "transpose": r"transpose",
    "concat": r"concat",
    "copy": r"memcpy",
    "memset": r"memset",
}
"""Kinds of kernels by patterns of ONNX Runtime's and cuDNN's names; the first match counts."""

OTHER = "other"
_ON_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}
NAMES = 120
"""Number of kernels that are listed by name: those that take longest."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One launch on the device's clock; times in microseconds."""

    name: str
    begin: float
    end: float


def kernels_of(trace: Mapping[str, Any]) -> list[Kernel]:
    """Kernels, copies and memsets of a trace in Chrome's format, by their begin."""
    found = [
        Kernel(event["name"], float(event["ts"]), float(event["ts"]) + float(event["dur"]))
        for event in trace["traceEvents"]
        if event.get("cat") in _ON_DEVICE
    ]
    return sorted(found, key=lambda each: each.begin)


def kind_of(name: str) -> str:
    """Kind of the kernel of this name, one of `KINDS` or `OTHER`."""
    plain = re.sub(r"[_\s]", "", name.lower())
    for kind, pattern in KINDS.items():
        if re.search(pattern.replace("_", ""), plain):
            return kind
    return OTHER


def busy(kernels: Iterable[Kernel]) -> float:
    """Microseconds in which at least one kernel runs; the kernels are in order of their begin."""
    total, until = 0.0, float("-inf")
    for each in kernels:
        total += max(0.0, each.end - max(each.begin, until))
        until = max(until, each.end)
    return total


def by_kind(kernels: Iterable[Kernel], steps: int) -> list[dict[str, Any]]:
    """Milliseconds and launches a step of each kind of kernel, the longest first."""
    return _summed(((kind_of(each.name), each) for each in kernels), steps)


def by_name(kernels: Iterable[Kernel], steps: int) -> list[dict[str, Any]]:
    """Milliseconds and launches a step of the `NAMES` kernels that take longest, by name."""
    return _summed(((each.name[:300], each) for each in kernels), steps)[:NAMES]


def _summed(named: Iterable[tuple[str, Kernel]], steps: int) -> list[dict[str, Any]]:
    times: dict[str, list[float]] = defaultdict(list)
    for name, kernel in named:
        times[name].append(kernel.end - kernel.begin)
    rows = [
        {
            "what": name,
            "ms": round(sum(each) / steps / 1e3, 4),
            "launches": round(len(each) / steps, 2),
        }
        for name, each in times.items()
    ]
    return sorted(rows, key=lambda row: -float(row["ms"]))


def main() -> None:
    """Measure, print, and write the result after each stage; the kernels come last."""
    arguments = _parser().parse_args()
    graphs = "without" if arguments.no_cuda_graphs else "with"
    output = arguments.output or RESULTS / f"kernels_{arguments.model}_{graphs}_graphs.json"
    generator, opened = opened_generator(
        arguments.engines,
        arguments.model,
        arguments.backend,
        captures=not arguments.no_cuda_graphs,
    )
    result: dict[str, Any] = {
        "model": arguments.model,
        "size": arguments.size,
        "steps": arguments.steps,
        "cuda_graphs": not arguments.no_cuda_graphs,
        **opened,
    }
    _keep(result, generator, output)
    wanted = Wanted(arguments.size, arguments.steps, arguments.sampler)
    result |= pictures(generator, wanted, arguments.pictures, previews=arguments.previews)
    _keep(result, generator, output)
    _print_pictures(result)
    if arguments.profiled:
        body = {**wanted.body(generator.model, 10**6), "steps": arguments.profiled}
        kernels = profiled(generator, body)
        result["profiled"] = summary(kernels, arguments.profiled, _step(result))
        _keep(result, generator, output)
        _print_kernels(result["profiled"])


def _keep(result: dict[str, Any], generator: Generator, output: Path) -> None:
    """Add the state of the device now to the result, and write the result so far."""
    backend = generator.backend
    if isinstance(backend, OnDevice):
        result["shortfalls"] = list(backend.shortfalls)
        result["device_memory"] = dict(backend.device_memory())
    keep(result, output, _figures(result))


def _figures(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Figures of all pictures that were drawn so far, with previews and without."""
    drawn = {"": result.get("pictures", ()), ", previews": result.get("with_previews", ())}
    return {
        f"{stage.removesuffix('_ms')}{ending}": Figure("ms", tuple(one[stage] for one in each))
        for ending, each in drawn.items()
        for stage in (each[0] if each else ())
        if stage.endswith("_ms")
    }


def pictures(generator: Generator, wanted: Wanted, count: int, *, previews: bool) -> dict[str, Any]:
    """Times of so many pictures, and with `previews` of as many more with a preview a step."""
    drawn, with_previews, last = [], [], {}
    for number in range(count):
        times, latents = draw(generator, wanted.body(generator.model, number))
        drawn.append(times)
        last = {"last_latents": sampled(latents)}
        if previews:
            # In turn, so that a machine that slows down slows both; and a prompt of its own, which
            # is encoded as the other was.
            body = wanted.body(generator.model, count + number)
            with_previews.append(draw_with_previews(generator, body))
    return {"pictures": drawn, "with_previews": with_previews, **last}


def profiled(generator: Generator, request: dict[str, Any]) -> list[Kernel]:
    """Kernels of one picture's steps, from the profiler; without encoding and decoding."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if torch.cuda.is_available():
        torch.zeros(1, device="cuda")
    model = generator.model
    # Prompts are encoded beforehand, so that the profiler sees steps alone.
    generator.conditioning(model.plan(model.read(request)))
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for event in generator.steps(model.plan(model.read(request))):
            if event.finished:
                generator.latents(event.sample)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return kernels_of(json.loads(path.read_text()))


def summary(kernels: Sequence[Kernel], steps: int, step_ms: float) -> dict[str, Any]:
    """Figures of the profiled kernels; `step_ms` is an unprofiled step by the clock."""
    if not kernels:
        return {"steps": steps, "launches": 0, "note": "the profiler saw no kernel"}
    spanned = kernels[-1].end - kernels[0].begin
    ran = busy(kernels)
    ran_ms = ran / steps / 1e3
    return {
        "steps": steps,
        "launches_a_step": round(len(kernels) / steps, 1),
        "kernels_ms_a_step": round(ran_ms, 3),
        "spanned_ms_a_step": round(spanned / steps / 1e3, 3),
        "gaps_share_profiled": round(1 - ran / spanned, 4),
        "step_ms_by_the_clock": round(step_ms, 3),
        "gaps_share_by_the_clock": round(1 - ran_ms / step_ms, 4) if step_ms else None,
        "kinds": by_kind(kernels, steps),
        "names": by_name(kernels, steps),
    }


def _step(result: Mapping[str, Any]) -> float:
    return float(statistics.median(each["step_ms"] for each in result["pictures"]))


def _print_pictures(result: Mapping[str, Any]) -> None:
    print(f"{result['note']}; opened in {result['open_seconds']} s")
    for sentence in result.get("shortfalls", ()):
        print(sentence)
    for each in [*result["pictures"], *result["with_previews"]]:
        print(" ".join(f"{name} {value}" for name, value in each.items()), flush=True)


def _print_kernels(found: Mapping[str, Any]) -> None:
    print(" ".join(f"{key}: {value}" for key, value in found.items() if key not in _TABLES))
    for row in found.get("kinds", ()):
        print(f"{row['ms']:8.3f} ms {row['launches']:7.1f} x {row['what']}")


_TABLES = ("kinds", "names")


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--model", default="demo", help="a package's name; default: demo")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="default: engines")
    parser.add_argument("--backend", choices=WISHES, default="auto", help="default: auto")
    parser.add_argument("--no-cuda-graphs", action="store_true", help="as of `calotype serve`")
    parser.add_argument("--size", type=int, default=1024, help="of a side; default: 1024")
    parser.add_argument("--steps", type=int, default=30, help="default: 30")
    parser.add_argument("--sampler", help="default: the model's own")
    parser.add_argument("--pictures", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument(
        "--previews", action="store_true", help="draw them again with a preview of every step"
    )
    parser.add_argument(
        "--profiled", type=int, default=4, metavar="STEPS", help="0 for none; default: 4"
    )
    return parser


if __name__ == "__main__":
    main()

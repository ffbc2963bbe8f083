"""Measures one request alone, stage by stage, in turns with diffusers' pipeline.

    python -m benchmarks.latency --model demo
    python -m benchmarks.latency --model sdxl-33m --backend onnxruntime-cpu --backend openvino

draws the same pictures, of the same weights, prompts and seeds, by contestants that take turns:
ours over HTTP, from the request to the last byte of the picture's file, and in process, both
without previews and with one at every step; diffusers' pipeline in eager PyTorch, with `--compiled`
also through `torch.compile`; with `--plain-server` the same behind a plain FastAPI server; and with
`--optimum PYTHON` optimum-onnx's pipeline in an environment of its own. All may use all cores;
PyTorch has one thread where that is faster (`benchmarks.diffusers_pipeline`). The pipelines' own
totals end with the image in memory: its file is a stage beside the total.

Ratios and differences are of the same turn. `processor` is the processor time that a contestant's
processes took for a picture: on a machine with other work it is what to compare. `submit while
busy` is the time that a submission takes while the worker draws another picture.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.contestants import (
    COMPILED,
    EAGER,
    OPTIMUM,
    PLAIN,
    Contestants,
    Stages,
    in_process,
    over_http,
)
from benchmarks.frame import (
    RESULTS,
    Figure,
    Figures,
    add_turn_flags,
    benchmark_parser,
    in_turns,
    keep,
    show,
)
from benchmarks.serving import Server
from benchmarks.subjects import Drawn, add_backends_flag, add_subject_flags, backends, subject

SUBMISSIONS = 20
BUSY_PICTURES = 10
"""Length of the picture that keeps the worker busy, in usual pictures."""
PAUSE = 0.02
"""Seconds between two submissions: they fall on all parts of a step."""


def main() -> int:
    """Measure, print, and write the result and its chart."""
    arguments = _parser().parse_args()
    arguments.backend = backends(arguments)
    drawn = subject(arguments.model, arguments.work)
    picture = Drawn(arguments.size or drawn.picture.size, arguments.steps or drawn.picture.steps)
    output = arguments.output or RESULTS / f"latency_{arguments.model}.json"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contestants = Contestants(drawn, picture, folder, stack)
        _open(contestants, arguments)
        taken = in_turns(contestants.draws, arguments.turns, warm=arguments.warm)
        figures = {**_of_stages(taken), **_compared(taken, arguments.backend)}
        for backend, server in contestants.servers.items():
            figures[f"{backend}: submit while busy"] = submissions(server, contestants)
        result = {
            "model": arguments.model,
            **asdict(picture),
            "guidance": drawn.guidance,
            "contestants": contestants.facts,
            "largest_difference_of_255": _differences(contestants),
        }
    keep(result, output, figures, title=_title(arguments.model, picture), panels=_panels(figures))
    show(figures)
    return 0


def _open(contestants: Contestants, arguments: argparse.Namespace) -> None:
    for backend in arguments.backend:
        contestants.add_served(backend)
        contestants.add_in_process(backend)
    threads = contestants.add_diffusers()
    if arguments.compiled:
        contestants.add_compiled(threads)
    if arguments.optimum:
        contestants.add_optimum(arguments.optimum)
    if arguments.plain_server:
        contestants.add_plain_server(threads)


def _of_stages(taken: Mapping[str, Sequence[Stages]]) -> dict[str, Figure]:
    """Figures of every stage of every contestant."""
    return {
        # A picture whose previews all fell behind has no first preview.
        f"{name}: {stage}": Figure("ms", tuple(each[stage] for each in those if stage in each))
        for name, those in taken.items()
        for stage in dict.fromkeys(stage for each in those for stage in each)
    }


def _compared(taken: Mapping[str, Sequence[Stages]], backends: Sequence[str]) -> Figures:
    """Ratios to the others, and HTTP's addition to the same request in process."""
    totals, worked = (
        {name: Figure("ms", tuple(each[stage] for each in those)) for name, those in taken.items()}
        for stage in ("total", "processor")
    )
    found = {}
    for other in (EAGER, COMPILED, OPTIMUM, PLAIN):
        for backend in backends if other in totals else ():
            for previews in (False, True):
                name = over_http(backend, previews=previews)
                found[f"{name} / {other}"] = totals[name].over(totals[other])
                ratio = worked[name].over(worked[other])
                found[f"{name} / {other}: processor"] = ratio
    for backend in backends:
        for previews in (False, True):
            served = over_http(backend, previews=previews)
            alone = in_process(backend, previews=previews)
            found[f"{served}: added by HTTP"] = totals[served].minus(totals[alone])
        shown, plain = (over_http(backend, previews=each) for each in (True, False))
        found[f"{shown} / without"] = totals[shown].over(totals[plain])
    return found


def submissions(server: Server, contestants: Contestants) -> Figure:
    """Milliseconds of submissions while the worker draws a long picture."""
    picture = contestants.body(10**6, previews=False)
    jobs = [server.submit({**picture, "steps": min(100, BUSY_PICTURES * picture["steps"])})]
    while server.get(f"/api/jobs/{jobs[0]}")["status"] == "queued":
        time.sleep(PAUSE)
    took = []
    for number in range(SUBMISSIONS):
        body = {**contestants.body(10**6 + 1 + number, previews=False), "steps": 1}
        began = time.perf_counter()
        jobs.append(server.submit(body))
        took.append(1e3 * (time.perf_counter() - began))
        time.sleep(PAUSE)
    for job in jobs:
        server.cancel(job)
    server.wait_ended(jobs, len(jobs))
    return Figure("ms", tuple(took))


def _differences(contestants: Contestants) -> dict[str, int]:
    """Largest difference of a channel's value to diffusers' picture of the same number."""
    wanted = _pixels(contestants.file_of(EAGER))
    return {
        name: int(np.abs(_pixels(contestants.file_of(name)) - wanted).max())
        for name in contestants.draws
        if "previews" not in name
    }


def _pixels(path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int64)


def _panels(figures: Figures) -> dict[str, Figures]:
    totals = {name[:-7]: each for name, each in figures.items() if name.endswith(": total")}
    steps = {name[:-6]: each for name, each in figures.items() if name.endswith(": step")}
    worked = {name[:-11]: each for name, each in figures.items() if name.endswith(": processor")}
    worked = {name: each for name, each in worked.items() if each.unit == "ms"}
    ratios = {name: each for name, each in figures.items() if each.unit == "ratio"}
    others = {
        name: each
        for name, each in figures.items()
        if name.endswith((": added by HTTP", ": submit while busy"))
    }
    return {
        "One picture, ms (median; the line from 5 to 95 %)": totals,
        "Processor time of a picture, ms": worked,
        "A step, ms": steps,
        "Ratios of the same turn": ratios,
        "What the server adds, ms": others,
    }


def _title(model: str, picture: Drawn) -> str:
    return f"{model}: one request alone, {picture.size}x{picture.size}, {picture.steps} steps"


def _parser() -> argparse.ArgumentParser:
    flags = benchmark_parser(__doc__)
    add_subject_flags(flags)
    add_turn_flags(flags, turns=15, warm=2)
    add_backends_flag(flags)
    flags.add_argument("--size", type=int, help="of a side; default: the model's own")
    flags.add_argument("--steps", type=int, help="default: the model's own")
    flags.add_argument(
        "--compiled", action="store_true", help="diffusers through torch.compile too"
    )
    flags.add_argument(
        "--optimum",
        metavar="PYTHON",
        help="optimum-onnx's pipeline too, by the Python of its environment",
    )
    flags.add_argument(
        "--plain-server", action="store_true", help="a plain server around diffusers too"
    )
    return flags


if __name__ == "__main__":
    sys.exit(main())

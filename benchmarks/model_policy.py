"""Simulates a worker that has room for one of two models, by the product's own choice and others'.

    python -m benchmarks.model_policy

Jobs of both models come at random times, by seeds and with no clock. A worker draws one picture at
a time; a job of the model that is not loaded has it loaded first. Compared are first come first
served, the loaded model's jobs first as long as there are any, and the product's choice
(`runtime.jobs.affinity`). `load` is the share of the time that pictures alone would take. Times of
loadings on the CPU are those of `models.json`; those on a GPU are an assumption, the aim.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frame import RESULTS, benchmark_parser, quantile
from benchmarks.machine import write
from runtime.jobs.affinity import Waiting, next_models
from runtime.wire.messages import Shelved

LOADS = (0.3, 0.6, 0.9)
JOBS = 4000


@dataclass(frozen=True, slots=True)
class Scenario:
    """Two models by their names: seconds of a picture and of a loading, and their jobs' shares."""

    title: str
    pictures: Mapping[str, float]
    loadings: Mapping[str, float]
    shares: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Job:
    """A job that comes at a time."""

    model: str
    arrived: float


@dataclass(frozen=True, slots=True)
class Worker:
    """The simulated worker as it is now."""

    loaded: str
    since: float
    now: float
    loadings: Mapping[str, float]


Choice = Callable[[Sequence[Job], Worker], str]
"""The model whose oldest job is next, by the jobs that wait."""


def first_come(queue: Sequence[Job], _: Worker) -> str:
    """The oldest job's, whatever is loaded."""
    return queue[0].model


def loaded_first(queue: Sequence[Job], worker: Worker) -> str:
    """The loaded one, as long as it has jobs."""
    has_jobs = any(job.model == worker.loaded for job in queue)
    return worker.loaded if has_jobs else queue[0].model


def ours(queue: Sequence[Job], worker: Worker) -> str:
    """The product's choice."""
    waiting = [Waiting(job.model, urgent=True, seconds=worker.now - job.arrived) for job in queue]
    shelf = Shelved([worker.loaded], [], 0, worker.loadings)
    allowed = next_models(waiting, shelf, [], settled=worker.now - worker.since)
    return next(job.model for job in queue if job.model in allowed)


POLICIES: Mapping[str, Choice] = {
    "first come first served": first_come,
    "loaded first": loaded_first,
    "ours": ours,
}


def scenarios(results: Path = RESULTS) -> list[Scenario]:
    """Models on a CPU as measured, and on a GPU as aimed at."""
    kept = json.loads((results / "models.json").read_text())["figures"]
    cpu = {name: kept[f"switching to {name}"]["p50"] for name in ("demo", "sdxl-33m")}
    gpu = {"sdxl": 4.0, "flux-dev": 8.0}
    found = []
    for title, loadings, pictures in (
        ("CPU, the demo and an SDXL of 33 million parameters", cpu, (0.2, 2.0)),
        ("H200, SDXL and Flux Dev, loadings assumed", gpu, (1.2, 3.6)),
    ):
        named = dict(zip(loadings, pictures, strict=True))
        found += [
            Scenario(f"{title}, {share:.0%} of the first", named, loadings, (share, 1 - share))
            for share in (0.5, 0.9)
        ]
    return found


def jobs_of(scenario: Scenario, load: float, seed: int) -> list[Job]:
    """Jobs at random times, whose pictures alone are so much of the time."""
    generator = np.random.default_rng(seed)
    names = list(scenario.pictures)
    drawn = [names[index] for index in generator.choice(2, JOBS, p=scenario.shares)]
    work = sum(scenario.pictures[name] for name in drawn) / JOBS
    times = np.cumsum(generator.exponential(work / load, JOBS))
    return [Job(name, float(time)) for name, time in zip(drawn, times, strict=True)]


def simulate(scenario: Scenario, jobs: Sequence[Job], choice: Choice) -> dict[str, float]:
    """Waits from arrival to the begin of the drawing, and the share of time spent on loadings."""
    loaded, since, now, switching, coming = jobs[0].model, 0.0, 0.0, 0.0, 0
    queue: list[Job] = []
    waits: list[float] = []
    while coming < len(jobs) or queue:
        if not queue:
            now = max(now, jobs[coming].arrived)
        while coming < len(jobs) and jobs[coming].arrived <= now:
            queue.append(jobs[coming])
            coming += 1
        model = choice(queue, Worker(loaded, since, now, scenario.loadings))
        if model != loaded:
            loaded, since = model, now + scenario.loadings[model]
            now = since
            switching += scenario.loadings[model]
        job = next(each for each in queue if each.model == model)
        queue.remove(job)
        waits.append(now - job.arrived)
        now += scenario.pictures[model]
    return {
        "mean wait": sum(waits) / len(waits),
        "p95 wait": quantile(waits, 0.95),
        "longest wait": max(waits),
        "share of loadings": switching / now,
    }


def main() -> int:
    """Simulate, print, and write the result."""
    arguments = benchmark_parser(__doc__).parse_args()
    rows: list[dict[str, Any]] = []
    for scenario in scenarios():
        for load in LOADS:
            jobs = jobs_of(scenario, load, seed=1)
            for name, choice in POLICIES.items():
                found = simulate(scenario, jobs, choice)
                short = {key: float(f"{value:.4g}") for key, value in found.items()}
                rows.append({"scenario": scenario.title, "load": load, "policy": name, **short})
                print(f"{scenario.title}, load {load}, {name}: {short}", flush=True)
    write({"jobs": JOBS, "rows": rows}, arguments.output or RESULTS / "model_policy.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Simulates the order in which jobs are drawn, by the product's own choice and two simple ones.

    python -m benchmarks.policy

compares first come first served, always-batch (all that can share a call do) and the product's
choice by cost, for measured tables of step times (`benchmarks.step_times`), with no clock and with
seeds. Times are from a job's arrival to its end, without text encoders and VAE. `better` is the
smaller figure of the two simple policies, each figure by itself.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.frame import RESULTS
from benchmarks.loads import Scenario, jobs_of, machine_of
from benchmarks.machine import write
from benchmarks.policies import AlwaysBatch, ByCost, FirstComeFirstServed
from benchmarks.policy_chart import panels
from benchmarks.queueing import Job, Policy, simulate
from runtime.draw.costs import Costs
from runtime.plan.served import BatchLimits

LIMITS = BatchLimits(16, 32)
LOADS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
PLACES = (1, 2, 4, 8, 16, 32, 64)
BAR = 1.02
MIXED = (4, 8, 20, 20, 30, 50)

POLICIES: Mapping[str, Callable[[Scenario], Policy]] = {
    "first come first served": lambda _: FirstComeFirstServed(),
    "always-batch": lambda _: AlwaysBatch(LIMITS),
    "by cost": lambda scenario: ByCost(LIMITS, scenario.machine.costs),
    "by cost, unmeasured": lambda _: ByCost(LIMITS, Costs()),
}
SIMPLE = ("first come first served", "always-batch")
OURS = "by cost"


def scenarios(results: Path = RESULTS) -> list[Scenario]:
    """Loads on the tables that are kept in `results`."""
    demo = machine_of(results / "step_times_demo_onnxruntime-cpu.json")
    h200 = machine_of(results / "step_times_sdxl_h200.json")
    quick = replace(h200, change=0.15)
    poisson = [
        Scenario("CPU, 128 pixels, 20 steps", demo, (128,), (20,)),
        Scenario("CPU, 128 pixels, mixed steps", demo, (128,), MIXED),
        Scenario("CPU, 64 pixels, 20 steps", demo, (64,), (20,)),
        Scenario("CPU, 64 pixels, mixed steps", demo, (64,), MIXED),
        Scenario("CPU, mixed sizes and steps", demo, (64, 128, 128, 256), MIXED),
        Scenario("H200, 1024 pixels, 30 steps", h200, (1024,), (30,)),
        Scenario("H200, 512 pixels, 30 steps", h200, (512,), (30,)),
        Scenario("H200, mixed sizes and steps", h200, (512, 1024), MIXED),
    ]
    crowds = [
        replace(each, name=f"{each.name}, in crowds", crowds=True) for each in poisson if each.mixed
    ]
    return [
        *poisson,
        *crowds,
        Scenario("H200, 3 LoRA sets, 1 s a change", h200, (1024,), MIXED, sets=3),
        Scenario("H200, 4 LoRA sets, 0.15 s a change", quick, (512, 1024), MIXED, sets=4),
    ]


def point(
    scenario: Scenario,
    load: float,
    count: int,
    seed: int,
    policies: Iterable[str] = tuple(POLICIES),
) -> dict[str, Any]:
    """The figures of policies for the same jobs, and ours as a share of the better one's."""
    figures = {
        name: _figures(_run(scenario, load, count, seed, POLICIES[name](scenario)))
        for name in policies
    }
    return {
        "scenario": scenario.name,
        "mixed": scenario.mixed,
        "load": load,
        "seconds": figures,
        "share_of_better": {
            figure: round(figures[OURS][figure] / min(figures[name][figure] for name in SIMPLE), 4)
            for figure in ("mean", "p95", "p99")
        },
    }


def _run(scenario: Scenario, load: float, count: int, seed: int, policy: Policy) -> list[Job]:
    jobs = jobs_of(scenario, load, count, seed)
    simulate(jobs, policy, scenario.machine)
    return jobs


def _figures(jobs: list[Job]) -> dict[str, float]:
    taken = np.array([job.ended - job.arrived for job in jobs])
    p95, p99 = np.quantile(taken, (0.95, 0.99))
    found = {"mean": taken.mean(), "p95": p95, "p99": p99, "longest": taken.max()}
    return {name: round(float(seconds), 4) for name, seconds in found.items()}


def _places(scenario: Scenario, count: int, seed: int) -> list[dict[str, Any]]:
    """Figures by the number of jobs that a worker holds, at a load of 0.9."""
    costs = scenario.machine.costs
    return [
        {
            "scenario": scenario.name,
            "places": places,
            **_figures(_run(scenario, 0.9, count, seed, ByCost(LIMITS, costs, places))),
        }
        for places in PLACES
    ]


def _priorities(scenario: Scenario, count: int, seed: int) -> list[dict[str, Any]]:
    """Figures of either priority where a third of the jobs are of batch priority."""
    found = []
    for load in LOADS:
        mixed = replace(scenario, batch_share=1 / 3)
        jobs = _run(mixed, load, count, seed, ByCost(LIMITS, scenario.machine.costs))
        found.append(
            {
                "scenario": scenario.name,
                "load": load,
                "interactive": _figures([job for job in jobs if job.urgent]),
                "batch": _figures([job for job in jobs if not job.urgent]),
            }
        )
    return found


def main() -> int:
    """Simulate, print, and write the figures and a chart."""
    arguments = _parser().parse_args()
    count, seed = arguments.jobs, arguments.seed
    chosen = scenarios()
    grid = [(scenario, load) for scenario in chosen for load in LOADS]
    points = [point(*each, count, seed) for each in tqdm(grid, desc="points")]
    mixed = next(each for each in chosen if "CPU, mixed" in each.name)
    result = {
        "jobs": count,
        "seed": seed,
        "limits": {"samples": LIMITS.samples, "evaluations": LIMITS.evaluations},
        "over_the_bar": _over(points),
        "points": points,
        "places": _places(mixed, count, seed),
        "priorities": _priorities(mixed, count, seed),
    }
    _print(points)
    output = arguments.output or RESULTS / "policy.json"
    write(result, output)
    output.with_suffix(".svg").write_text(panels(points, (*SIMPLE, OURS)))
    return 0


def _over(points: list[dict[str, Any]]) -> list[str]:
    return [
        f"{each['scenario']} at {each['load']}: {figure} {each['share_of_better'][figure]}"
        for each in points
        for figure in ("mean", "p95")
        if each["share_of_better"][figure] > BAR
    ]


def _print(points: list[dict[str, Any]]) -> None:
    for each in points:
        shares = ", ".join(f"{name} {share}" for name, share in each["share_of_better"].items())
        print(f"{each['scenario']:45} load {each['load']:4}: {shares} of the better one's")
    for line in _over(points):
        print(f"over {BAR}: {line}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=3000, metavar="N", help="default: 3000")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: in results/")
    return parser


if __name__ == "__main__":
    sys.exit(main())

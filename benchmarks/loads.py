"""Loads for a simulated worker: scenarios, and their jobs drawn from a seed."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from benchmarks.queueing import Job, Machine
from runtime.draw.costs import Kind

CROWD = 4
"""The mean number of jobs that arrive together where a load comes in crowds."""
PIXELS_PER_LATENT = 8


@dataclass(frozen=True, slots=True)
class Scenario:
    """A machine and the jobs that come to it."""

    name: str
    machine: Machine
    sizes: tuple[int, ...]
    """In pixels; every job draws one, as of the other tuples."""
    steps: tuple[int, ...]
    crowds: bool = False
    sets: int = 1
    """The number of LoRA sets that jobs have."""
    batch_share: float = 0.0
    """The share of jobs of batch priority."""

    @property
    def mixed(self) -> bool:
        """True where jobs differ."""
        return len(self.sizes) > 1 or len(set(self.steps)) > 1 or self.sets > 1


def jobs_of(scenario: Scenario, load: float, count: int, seed: int) -> list[Job]:
    """Jobs in the order of arrival. The load is the share of its time that a worker needs which
    draws them one by one in that order, with the changes of LoRAs.
    """
    drawn = random.Random(seed)
    jobs = [
        Job(
            arrived=0.0,
            kind=kind_of(drawn.choice(scenario.sizes)),
            rows_left=drawn.choice(scenario.steps),
            loras=drawn.randrange(scenario.sets),
            urgent=drawn.random() >= scenario.batch_share,
        )
        for _ in range(count)
    ]
    work = sum(map(scenario.machine.alone, jobs)) / count
    work += scenario.machine.change * (1 - 1 / scenario.sets)
    together = CROWD if scenario.crowds else 1
    now = 0.0
    for job in jobs:
        # Crowds of a geometric number of jobs keep the mean time between two jobs.
        if drawn.random() < 1 / together:
            now += drawn.expovariate(load / (work * together))
        job.arrived = now
    return jobs


def machine_of(path: Path) -> Machine:
    """The machine of a file that `benchmarks.step_times` wrote."""
    table = json.loads(path.read_text())
    times: dict[Kind, dict[int, float]] = {}
    for row in table["times"]:
        times.setdefault(kind_of(row["size"]), {})[row["evaluations"]] = row["seconds"]
    return Machine(times, table["change_seconds"])


def kind_of(size: int) -> Kind:
    """The kind of the calls of square pictures of this size in pixels."""
    side = size // PIXELS_PER_LATENT
    return Kind(side, side, adapted=False)

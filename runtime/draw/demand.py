"""The demand on a device, as seen by the jobs that arrived: their rate, and the work of each."""

import math
from dataclasses import dataclass

MEMORY = 128
"""The number of the latest jobs that count."""
FULLEST = 0.95
"""The highest load that is believed: above this no queue would ever become shorter."""
SHORTEST = 1.5
"""Chosen by `benchmarks.policy`: jobs of few steps pass those of many at low load too."""
IDLEST = 0.05
"""The lowest load that is told apart: a night without jobs is forgotten by the next few jobs."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Moving means over the jobs that arrived. Work is in seconds of the device."""

    jobs: int = 0
    gap: float = math.inf
    """Seconds between two arrivals."""
    work: float = 0.0
    square: float = 0.0
    """Mean of the squares of work."""
    latest: float = -math.inf
    """The latest arrival, in seconds."""

    def after(self, arrived: float, work: float) -> "Demand":
        """The demand after another job, of so much work."""
        jobs = self.jobs + 1
        share = 1 / min(jobs, MEMORY)
        gap = max(arrived - self.latest, 0.0)
        if jobs > 1:
            gap = min(gap, self.work / IDLEST)
        if jobs > 2:
            gap = self.gap + (gap - self.gap) / min(jobs - 1, MEMORY)
        return Demand(
            jobs=jobs,
            gap=gap,
            work=self.work + share * (work - self.work),
            square=self.square + share * (work * work - self.square),
            latest=max(arrived, self.latest),
        )

    @property
    def load(self) -> float:
        """The share of its time that the device needs for the jobs, FULLEST at most."""
        return min(self.work / self.gap, FULLEST) if self.gap else FULLEST

    @property
    def rate(self) -> float:
        """Jobs a second, no more than make the load FULLEST."""
        return self.load / self.work if self.work else 0.0

    @property
    def patience(self) -> float:
        """Seconds: the scale of waiting times under this load, SHORTEST mean works at least.

        The reciprocal of the decay rate of a queue's waiting time in heavy traffic (Kingman):
        rate * mean square of work / (2 * (1 - load)).
        """
        if not self.rate:
            return 0.0
        waiting = self.rate * self.square / (2 * (1 - self.load))
        return max(waiting, SHORTEST * self.work)

"""Counts of measured values by their size, as Prometheus has histograms."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

WAITS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Seconds that people wait."""
STAGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds that machines take."""
SAMPLES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Samples of a call."""


@dataclass(slots=True)
class Tally:
    """Values counted by the least of `bounds` that they do not exceed."""

    bounds: tuple[float, ...]
    total: float = 0.0
    """Their sum."""
    counts: list[int] = field(init=False)
    """By bound; the last is of the values that exceed all."""

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """By bound, the number of values that do not exceed it; at the end, all."""
        names = (*map(str, map(float, self.bounds)), "+Inf")
        return zip(names, accumulate(self.counts), strict=True)

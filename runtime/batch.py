"""Which samples share the next call of the step graph.

Samples go together when their arrays have the same shapes; everything else about them (the step
they are at, the sampler, guidance) is a row's own. The samples that have waited longest choose,
so that every shape gets its turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What the policy needs to know of a running sample."""

    @property
    def shape_key(self) -> tuple[object, ...]:
        """Samples with equal keys can share a call."""
        ...

    @property
    def next_evaluations(self) -> int:
        """How many evaluations its next row calls."""
        ...


SampleType = TypeVar("SampleType", bound=Candidate)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one call of the step graph takes."""

    samples: int
    evaluations: int


def choose(waiting: Sequence[SampleType], limits: BatchLimits) -> list[SampleType]:
    """The samples to advance now, in order; `waiting` is ordered by who was advanced longest ago.

    The first sample is always taken, with those of its shape that still fit.
    """
    if not waiting:
        return []
    chosen: list[SampleType] = []
    evaluations = 0
    for sample in waiting:
        if sample.shape_key != waiting[0].shape_key:
            continue
        evaluations += sample.next_evaluations
        if chosen and (len(chosen) == limits.samples or evaluations > limits.evaluations):
            break
        chosen.append(sample)
    return chosen

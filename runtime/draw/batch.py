"""Which samples share the next call of the step graph.

Samples go together when their arrays have the same shapes and the same LoRAs act on them;
everything else about them (the step they are at, the sampler, guidance) is a row's own. The samples
that have waited longest choose, so that every shape gets its turn. The LoRA set that is loaded
keeps its turn for a while, since another one costs a rewrite of weights: MOST_TURNS at the most,
while samples of other sets wait. A sample thus waits that many turns for each other set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from runtime.package.pack import LoraSet
from runtime.plan.served import BatchLimits

MOST_TURNS = 8


class Candidate(Protocol):
    """What the policy needs to know of a running sample."""

    @property
    def shape_key(self) -> tuple[object, ...]:
        """Samples with equal keys can share a call."""
        ...

    @property
    def loras(self) -> LoraSet:
        """What acts on it."""
        ...

    @property
    def next_evaluations(self) -> int:
        """How many evaluations its next row calls."""
        ...


SampleType = TypeVar("SampleType", bound=Candidate)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The LoRA set that is on the denoiser, and for how many turns on end it was."""

    loras: LoraSet = ()
    turns: int = 0

    def after(self, loras: LoraSet) -> "Loaded":
        """As it is after a turn with this set."""
        return Loaded(loras, self.turns + 1 if loras == self.loras else 1)


def choose(waiting: Sequence[SampleType], limits: BatchLimits, loaded: Loaded) -> list[SampleType]:
    """The samples to advance now, in order; `waiting` is ordered by who was advanced longest ago.

    The first sample whose LoRA set has its turn is taken, with those that can share its call.
    """
    if not waiting:
        return []
    first = _first(waiting, loaded)
    chosen: list[SampleType] = []
    evaluations = 0
    for sample in waiting:
        if (sample.shape_key, sample.loras) != (first.shape_key, first.loras):
            continue
        evaluations += sample.next_evaluations
        if chosen and (len(chosen) == limits.samples or evaluations > limits.evaluations):
            break
        chosen.append(sample)
    return chosen


def _first(waiting: Sequence[SampleType], loaded: Loaded) -> SampleType:
    stays = loaded.turns < MOST_TURNS
    preferred = (sample for sample in waiting if (sample.loras == loaded.loras) == stays)
    return next(preferred, waiting[0])

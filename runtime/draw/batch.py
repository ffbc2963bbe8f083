"""The choice of the samples that share the next call of the step graph.

Samples can share a call when their arrays have the same shapes and the same LoRA set acts on them.
Everything else, such as their step, sampler and guidance, may differ. The sample that has waited
longest determines the shape, so that every shape gets its turn. The LoRA set that is loaded keeps
the turn for up to MOST_TURNS turns while samples of other sets wait, since another set costs a
rewrite of weights. A set thus waits at most MOST_TURNS turns for each other set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from runtime.package.pack import LoraSet
from runtime.plan.served import BatchLimits

MOST_TURNS = 8


class Candidate(Protocol):
    """The facts about a running sample that the choice depends on."""

    @property
    def shape_key(self) -> tuple[object, ...]:
        """The shapes of the sample's arrays; calls are shared for equal keys and LoRA sets."""
        ...

    @property
    def loras(self) -> LoraSet:
        """The LoRA set that acts on the sample."""
        ...

    @property
    def next_evaluations(self) -> int:
        """The number of evaluations in the sample's next row."""
        ...


SampleType = TypeVar("SampleType", bound=Candidate)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The LoRA set on the denoiser, and the number of turns in a row that used the set."""

    loras: LoraSet = ()
    turns: int = 0

    def after(self, loras: LoraSet) -> "Loaded":
        """The state after a turn with this set."""
        return Loaded(loras, self.turns + 1 if loras == self.loras else 1)


def choose(waiting: Sequence[SampleType], limits: BatchLimits, loaded: Loaded) -> list[SampleType]:
    """The samples of the next call, in order: the first sample whose LoRA set has the turn, then as
    many samples that can share the call as `limits` allows. `waiting` begins with the sample that
    was advanced longest ago.
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

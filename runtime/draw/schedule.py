"""The schedule of a denoising loop: the choice of turns, by costs and demand that are learned.

A choice is kept until a sample arrives or leaves, until the next row of one has another number of
evaluations, or until a measured time changes: the choosing is then no part of a step's own time.

Interactive samples go before those of batch priority at every call. Where they never end, batch
samples get BATCH_SHARE of the time all the same: the oldest of them gets a call of its own whenever
the calls without one have taken so long that its call is within that share. So an interactive
sample waits for one call of a batch sample, and for another each time that 19 times as long was
spent on interactive ones; and a batch sample is done after at most 1 / BATCH_SHARE times the work
of its own and of the batch samples before it.
"""

import time
from collections.abc import Sequence
from typing import TypeVar

from runtime.draw.batch import Candidate, Fitting, choose, evaluations_of, unbounded
from runtime.draw.costs import Costs, Kind
from runtime.draw.demand import Demand
from runtime.plan.served import BatchLimits

FEWEST_PLACES = 8
BATCH_SHARE = 0.05
"""The least share of the device's time for batch priority, changes of LoRAs for it included. Chosen
by `benchmarks.policy`: a tenth makes interactive samples wait half as long again at a load of 0.9.
"""

SampleType = TypeVar("SampleType", bound=Candidate)


def places_for(limits: BatchLimits) -> int:
    """The samples that a loop holds at once: more than fit in a call, so that it can choose.

    A sample takes a few megabytes: its latents, its history and its conditioning.
    """
    return max(2 * limits.samples, FEWEST_PLACES)


class Schedule:
    """Chooses turns, and learns from those that were made. For one thread."""

    def __init__(
        self,
        limits: BatchLimits,
        costs: Costs | None = None,
        places: int | None = None,
        fitting: Fitting = unbounded,
    ) -> None:
        """`costs` may know times already. `places`: the samples held at once, None for more than
        fit in a call. `fitting` tells what the memory holds.
        """
        self._fitting = fitting
        self.limits = limits
        self.places = places or places_for(limits)
        self.costs = costs or Costs()
        self.demand = Demand()
        self._basis: object = None
        self._kept: tuple[int, ...] = ()
        self._turn: tuple[Kind, int] | None = None
        self._ended_at = 0.0
        self._passed = 0.0
        """Seconds of the calls for which samples of batch priority have waited since their last."""

    def restart(self) -> None:
        """Forget all samples that have arrived; times stay known."""
        self.demand = Demand()

    def arrived(self, sample: Candidate) -> None:
        """A sample has joined those that wait."""
        kind, evaluations = sample.kind, sample.next_evaluations
        share = min(
            self.costs.seconds(kind, evaluations * count) / count
            for count in range(1, self.limits.samples + 1)
        )
        self.demand = self.demand.after(sample.arrived, sample.rows_left * share)

    def turn(self, held: Sequence[SampleType], loaded: object) -> list[SampleType]:
        """The samples of the next call. `loaded` is the LoRA set on the denoiser."""
        background = [sample for sample in held if not sample.urgent]
        if not background or len(background) == len(held):
            self._passed = 0.0
            return self._chosen(held, loaded)
        oldest = min(background, key=lambda sample: sample.arrived)
        if self._passed >= (1 / BATCH_SHARE - 1) * self._price(oldest, loaded):
            self._passed = 0.0
            return [oldest]
        turn = self._chosen(held, loaded)
        if any(not sample.urgent for sample in turn):
            self._passed = 0.0
        else:
            self._passed += self.costs.seconds(turn[0].kind, evaluations_of(turn))
        return turn

    def _price(self, sample: Candidate, loaded: object) -> float:
        """Seconds of a call of the sample among others, of whose LoRA set it may not be."""
        changes = 0.0 if sample.loras == loaded else 2 * self.costs.change
        return self.costs.seconds(sample.kind, sample.next_evaluations) + changes

    def _chosen(self, held: Sequence[SampleType], loaded: object) -> list[SampleType]:
        """The choice, which is kept while nothing has changed."""
        basis = ([(sample, sample.next_evaluations) for sample in held], self.costs.version)
        if basis != self._basis:
            chosen = choose(
                held, self.limits, loaded, self.costs, self.demand, fitting=self._fitting
            )
            self._kept = tuple(held.index(sample) for sample in chosen)
            self._basis = basis
        return [held[place] for place in self._kept]

    def begun(self) -> None:
        """The loop begins: the call before, if any, was long ago."""
        self._turn, self._basis = None, None

    def called(self, turn: Sequence[Candidate]) -> None:
        """A call has been made. Its time is that since the call before, where both are alike.

        The first of several like calls is not counted: a LoRA set may have been put on or a graph
        captured before it, and where the host runs ahead by one step of a device, the time is that
        of the call before.
        """
        now = time.perf_counter()
        made = (turn[0].kind, evaluations_of(turn))
        if made == self._turn:
            self.costs.called(*made, now - self._ended_at)
        self._turn, self._ended_at = made, now

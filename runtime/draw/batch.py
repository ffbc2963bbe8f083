"""The choice of the samples that share the next call of the step graph, by cost.

Samples can share a call when their arrays have the same shapes and the same LoRA set acts on them.
Everything else, such as their step, sampler and guidance, may differ.

*Order.* Samples come in the order of their arrival less a boost, which is longer for less work:

    boost(work) = patience * log(1 / (1 - exp(-work / patience)))

(Yu and Scully, "Strongly Tail-Optimal Scheduling in the Light-Tailed M/G/1", 2024: the mean and the
tail of the time in a queue are shorter than by order of arrival.) Work is the seconds that remain,
with the change of LoRAs where another set is loaded, and patience the scale of waiting times
(`runtime.draw.demand`). A sample is thus passed only by samples that arrive while its boost is less
than theirs by more: all waiting is bounded. Those of batch priority come after all others and have
no boost; `runtime.draw.schedule` sees to it that they get their share of the time all the same.

*Width.* The first sample determines shapes and LoRA set; no more samples share a call than the
memory holds. For each number of samples that could
share its calls, the times are predicted at which every sample would be done, if no other came.
Their sum is added to the time that samples to come would wait for these, rate * done**2 / (2 * (1 -
load)), the value of work in a queue of Poisson arrivals. Of the numbers that save time at all, the
one with the least of these is chosen, each first made smaller by CROWD_VALUE times the square of
the share of time that sharing saves: samples that come in crowds are worse off than the formula
says, and a square leaves small savings alone, of which measurement cannot be sure.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import Protocol, TypeVar

from runtime.draw.costs import Costs, Kind
from runtime.draw.demand import Demand
from runtime.plan.served import BatchLimits

BACKGROUND_WEIGHT = 0.1
"""The weight of a second of a batch sample's time, where that of an interactive sample is 1."""
LEAST_GAIN = 0.03
"""The least share of time that a shared call must save; less is within the noise of measurement."""
LONGEST_SHARED = 1.0
"""The most seconds of a call that samples of batch priority share: an interactive sample that comes
waits for its end. One of them alone may take longer.
"""
CROWD_VALUE = 1.5
"""Chosen by `benchmarks.policy`."""
STAYING = 4.0
"""A sample of another LoRA set comes later by this many times what the change takes."""


class Candidate(Protocol):
    """The facts about a running sample that the choice depends on."""

    @property
    def shape_key(self) -> tuple[object, ...]:
        """The shapes of the sample's arrays; calls are shared for equal keys and LoRA sets."""
        ...

    @property
    def kind(self) -> Kind:
        """The kind of the sample's calls, by which their times are known."""
        ...

    @property
    def loras(self) -> object:
        """The LoRA set that acts on the sample."""
        ...

    @property
    def next_evaluations(self) -> int:
        """The number of evaluations in the sample's next row."""
        ...

    @property
    def rows_left(self) -> int:
        """The number of rows that remain."""
        ...

    @property
    def arrived(self) -> float:
        """The time of the arrival, in seconds of any clock."""
        ...

    @property
    def urgent(self) -> bool:
        """False for batch priority."""
        ...


SampleType = TypeVar("SampleType", bound=Candidate)

Fitting = Callable[[Kind], float]
"""The most evaluations of a kind of call that the memory holds."""


def unbounded(_kind: Kind) -> float:
    """Memory that holds every call."""
    return math.inf


def choose(
    waiting: Sequence[SampleType],
    limits: BatchLimits,
    loaded: object,
    costs: Costs,
    demand: Demand,
    *,
    fitting: Fitting = unbounded,
) -> list[SampleType]:
    """The samples of the next call, in order. `loaded` is the LoRA set on the denoiser."""
    if len(waiting) <= 1:
        return list(waiting)
    places = [(_place(sample, loaded, costs, demand), sample) for sample in waiting]
    order = [sample for _, sample in sorted(places, key=lambda pair: pair[0])]
    first = order[0]
    alike = [each for each in order if _shares(each, first)]
    rest = [each for each in order if not _shares(each, first)]
    widths = [
        width
        for width in range(1, _most(alike, limits, fitting(first.kind)) + 1)
        if width == 1 or _worth_sharing(alike[:width], costs)
    ]
    scores = {width: _score(alike, width, rest, costs, demand) for width in widths}
    return alike[: min(scores, key=scores.__getitem__)]


def _worth_sharing(together: Sequence[Candidate], costs: Costs) -> bool:
    first = together[0]
    seconds = costs.seconds(first.kind, evaluations_of(together))
    return _gain(together, costs) > LEAST_GAIN and (first.urgent or seconds <= LONGEST_SHARED)


def evaluations_of(turn: Iterable[Candidate]) -> int:
    """The evaluations of a call of these samples."""
    return sum(sample.next_evaluations for sample in turn)


def work_of(sample: Candidate, costs: Costs) -> float:
    """The seconds that a sample takes alone from now on."""
    return sample.rows_left * costs.seconds(sample.kind, sample.next_evaluations)


def _place(sample: Candidate, loaded: object, costs: Costs, demand: Demand) -> tuple[bool, float]:
    """True for batch priority, and the time: samples are ordered by both."""
    change = 0.0 if sample.loras == loaded else costs.change
    arrived = sample.arrived + STAYING * change
    if not sample.urgent:
        return True, arrived
    return False, arrived - _boost(work_of(sample, costs) + change, demand.patience)


def _boost(work: float, patience: float) -> float:
    if not patience:
        return 0.0
    return -patience * math.log(-math.expm1(-work / patience))


def _shares(sample: Candidate, first: Candidate) -> bool:
    return (sample.shape_key, sample.loras) == (first.shape_key, first.loras)


def _most(alike: Sequence[Candidate], limits: BatchLimits, fitting: float) -> int:
    """The most samples of these, in order, that the limits and the memory allow in a call, and the
    first.
    """
    evaluations = 0
    for count, sample in enumerate(alike[: limits.samples]):
        evaluations += sample.next_evaluations
        if count and evaluations > min(limits.evaluations, fitting):
            return count
    return min(len(alike), limits.samples)


def _score(
    alike: Sequence[Candidate],
    width: int,
    rest: Sequence[Candidate],
    costs: Costs,
    demand: Demand,
) -> float:
    """The badness of a width."""
    return _waiting(alike, width, rest, costs, demand) * (
        1 - CROWD_VALUE * _gain(alike[:width], costs) ** 2
    )


def _gain(together: Sequence[Candidate], costs: Costs) -> float:
    """The share of time that calls of these together save, of calls of each alone."""
    kind = together[0].kind
    apart = sum(costs.seconds(kind, sample.next_evaluations) for sample in together)
    return max(0.0, 1 - costs.seconds(kind, evaluations_of(together)) / apart)


def _waiting(
    alike: Sequence[Candidate],
    width: int,
    rest: Sequence[Candidate],
    costs: Costs,
    demand: Demand,
) -> float:
    """The weighted sum of the times until all are done, where `width` of `alike` always share calls
    and the `rest` follow alone; with the waiting of those that arrive meanwhile.
    """
    total = now = 0.0
    row = evaluations = 0
    running: list[tuple[int, int]] = []
    for joined in range(len(alike) + width):
        if joined >= width and running:
            last, number = heappop(running)
            sample = alike[number]
            now += (last - row) * costs.seconds(sample.kind, evaluations)
            row, evaluations = last, evaluations - sample.next_evaluations
            total += now * _weight(sample)
        if joined < len(alike):
            heappush(running, (row + alike[joined].rows_left, joined))
            evaluations += alike[joined].next_evaluations
    for sample in rest:
        now += work_of(sample, costs)
        total += now * _weight(sample)
    return total + demand.rate * now * now / (2 * (1 - demand.load))


def _weight(sample: Candidate) -> float:
    return 1.0 if sample.urgent else BACKGROUND_WEIGHT

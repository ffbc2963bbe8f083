"""The policies that a simulation compares: the product's own, and two simple ones."""

from collections.abc import Sequence

from benchmarks.queueing import Job
from runtime.draw.batch import evaluations_of
from runtime.draw.costs import LATEST, Costs
from runtime.draw.schedule import Schedule
from runtime.plan.served import BatchLimits

MOST_TURNS = 8


class FirstComeFirstServed:
    """One job after another, in the order of arrival."""

    places = 1
    rotates = False

    def arrived(self, job: Job) -> None:
        """Nothing is learned."""

    def called(self, turn: Sequence[Job], seconds: float, calls: int) -> None:
        """Nothing is learned."""

    def changed(self, seconds: float) -> None:
        """Nothing is learned."""

    def turn(self, held: Sequence[Job], _loaded: object) -> list[Job]:
        """The only job."""
        return list(held)


class AlwaysBatch:
    """All that can share a call do; shapes take turns, and a LoRA set keeps its turn for a while.

    The product's policy until costs were measured.
    """

    rotates = True

    def __init__(self, limits: BatchLimits) -> None:
        """No more jobs are held than fit in a call."""
        self.places = limits.samples
        self._limits = limits
        self._turns = 0

    def arrived(self, job: Job) -> None:
        """Nothing is learned."""

    def called(self, turn: Sequence[Job], seconds: float, calls: int) -> None:
        """Nothing is learned."""

    def changed(self, seconds: float) -> None:
        """Nothing is learned."""

    def turn(self, held: Sequence[Job], loaded: object) -> list[Job]:
        """The job that waits longest, of the set that has the turn, and all that can join."""
        stays = self._turns < MOST_TURNS
        preferred = (job for job in held if (job.loras == loaded) == stays)
        first = next(preferred, held[0])
        self._turns = self._turns + 1 if first.loras == loaded else 1
        chosen: list[Job] = []
        evaluations = 0
        for job in held:
            if (job.shape_key, job.loras) != (first.shape_key, first.loras):
                continue
            evaluations += job.next_evaluations
            if chosen and evaluations > self._limits.evaluations:
                break
            chosen.append(job)
        return chosen


class ByCost:
    """The product's policy."""

    rotates = False

    def __init__(self, limits: BatchLimits, costs: Costs, places: int | None = None) -> None:
        """`places`: None for the product's own number."""
        self._schedule = Schedule(limits, costs, places)
        self.places = self._schedule.places

    def arrived(self, job: Job) -> None:
        """The schedule learns of the demand."""
        self._schedule.arrived(job)

    def called(self, turn: Sequence[Job], seconds: float, calls: int) -> None:
        """The costs learn of calls that followed one another."""
        for _ in range(min(calls - 1, LATEST)):
            self._schedule.costs.called(turn[0].kind, evaluations_of(turn), seconds)

    def changed(self, seconds: float) -> None:
        """The costs learn of a change of LoRAs."""
        self._schedule.costs.changed(seconds)

    def turn(self, held: Sequence[Job], loaded: object) -> list[Job]:
        """The schedule's choice."""
        return self._schedule.turn(held, loaded)

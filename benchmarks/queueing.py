"""A simulated worker: jobs that arrive, a policy that chooses calls, and a table of their times.

No clock and no threads: the time is a number that calls of the table's length move on. A policy is
asked again whenever a job arrives, is leased or ends, as the product's loop asks, and before every
call while jobs of both priorities are held.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from runtime.draw.costs import Costs, Kind, KnownTimes, StepTime


@dataclass(slots=True, eq=False)
class Job:
    """A simulated sample, as the product's policy sees one."""

    arrived: float
    kind: Kind
    rows_left: int
    next_evaluations: int = 2
    loras: object = ()
    urgent: bool = True
    ended: float = 0.0

    @property
    def shape_key(self) -> tuple[object, ...]:
        """The shape, which is the kind's."""
        return self.kind


class Policy(Protocol):
    """A worker's policy."""

    places: int
    """The jobs that the worker holds at once."""
    rotates: bool
    """True where jobs that are not in a call are in a next one, although no job came or ended."""

    def arrived(self, job: Job) -> None:
        """A job is held now."""
        ...

    def called(self, turn: Sequence[Job], seconds: float, calls: int) -> None:
        """So many calls of these jobs have been made, each of so many seconds."""
        ...

    def changed(self, seconds: float) -> None:
        """Another LoRA set has been put on, in so many seconds."""
        ...

    def turn(self, held: Sequence[Job], loaded: object, /) -> list[Job]:
        """The jobs of the next call. `held` begins with the job that was advanced longest ago."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """The times of a machine."""

    times: Mapping[Kind, Mapping[int, float]]
    """Seconds of a call by evaluations."""
    change: float = 0.0
    """Seconds of a change of LoRAs."""

    @property
    def costs(self) -> Costs:
        """The times as the product keeps them, all of them known."""
        known = [
            StepTime(kind, evaluations, seconds)
            for kind, row in self.times.items()
            for evaluations, seconds in row.items()
        ]
        return Costs(KnownTimes(known, self.change))

    def alone(self, job: Job) -> float:
        """Seconds of a job alone."""
        return job.rows_left * self.times[job.kind][job.next_evaluations]


def _leased(queued: list[Job], held: Sequence[Job], places: int) -> Job | None:
    """Take the next job that has a place from the queue; None for none. Batch jobs yield theirs."""
    urgent = sum(job.urgent for job in held)
    for number, job in enumerate(queued):
        if urgent < places if job.urgent else len(held) < places:
            return queued.pop(number)
    return None


def simulate(jobs: Sequence[Job], policy: Policy, machine: Machine) -> float:
    """Run all jobs, in the order of their arrival, to their ends; returns the time at the end."""
    # Between measured numbers of evaluations both the machine and the product take the line.
    seconds = machine.costs.seconds
    coming, queued, held = deque(jobs), list[Job](), list[Job]()
    now, loaded = 0.0, object()
    while coming or queued or held:
        while coming and coming[0].arrived <= now:
            queued.append(coming.popleft())
        while job := _leased(queued, held, policy.places):
            held.append(job)
            policy.arrived(job)
        if not held:
            now = coming[0].arrived
            continue
        turn = policy.turn(held, loaded)
        if turn[0].loras != loaded:
            now, loaded = now + machine.change, turn[0].loras
            policy.changed(machine.change)
        call = seconds(turn[0].kind, sum(job.next_evaluations for job in turn))
        shared = policy.rotates or len({job.urgent for job in held}) > 1
        alternating = shared and len(turn) < len(held)
        rows = 1 if alternating else min(job.rows_left for job in turn)
        if coming and sum(job.urgent for job in held) < policy.places:
            rows = min(rows, max(1, ceil((coming[0].arrived - now) / call)))
        now += rows * call
        policy.called(turn, call, rows)
        for job in turn:
            job.rows_left -= rows
            if not job.rows_left:
                job.ended = now
        held = [job for job in held if job not in turn] + [job for job in turn if job.rows_left]
    return now

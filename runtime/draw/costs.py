"""The times of calls of the step graph, by size and number of evaluations, as this machine takes
them.

A time is the lower quartile of the latest calls that were measured: whatever else a machine does
only ever adds to a call, and times that were measured at different hours are to be compared. The
table predicts a call that was not measured, optimistically, so that such a call is tried once and
known from then on:

- between two measured numbers of evaluations: the line through both;
- below the smallest: in proportion to the smallest;
- above the largest of several: the line through the two largest, at most in proportion to the
  largest. A size of which two together take twice as long is thus predicted to gain nothing from
  more;
- above the only one: HOPED of what proportion gives is added;
- of a size without any measured call: as for the measured size that is nearest, in proportion to
  the areas.

A time that is older than STALE calls of its size is forgotten, since a machine's load changes.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Annotated, NamedTuple

from pydantic import Field

LATEST = 32
ENOUGH = 12
"""The measured calls after which a number of evaluations is known."""
STALE = 1000
NOISE = 0.03
"""The share by which a time must differ before another is believed."""
HOPED = 0.25
NOMINAL = 1e-5
"""Seconds of an evaluation for each latent pixel, of a model without any measured call."""

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Seconds = Annotated[float, Field(ge=1e-9, le=1e9)]
"""The time of a call, as far as any machine can be meant: a time of nothing, or without an end,
gives no order of samples.
"""


class Kind(NamedTuple):
    """The properties of a call besides its evaluations."""

    height: Count
    """In latents, as the width."""
    width: Count
    adapted: bool
    """True where LoRAs act: the engine may then be another."""

    @property
    def area(self) -> int:
        """The number of latent pixels."""
        return self.height * self.width


class StepTime(NamedTuple):
    """A known time of a call."""

    kind: Kind
    evaluations: Count
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class KnownTimes:
    """All known times of a model on a device."""

    steps: list[StepTime] = field(default_factory=list)
    change: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """Seconds of a change of LoRAs; 0 where none was measured."""


@dataclass(slots=True)
class _Cell:
    seconds: float
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    at: int = 0
    """The count of its kind's calls at the latest of its own."""


class Costs:
    """The measured and predicted times of calls, and of a change of LoRAs. For one thread."""

    def __init__(self, known: KnownTimes | None = None) -> None:
        """`known` are times that were measured earlier."""
        self._cells: dict[Kind, dict[int, _Cell]] = {}
        self._calls: dict[Kind, int] = {}
        self._answers: dict[tuple[Kind, int], float] = {}
        self._changes: deque[float] = deque(maxlen=LATEST)
        self.change = 0.0
        """Seconds of a change of LoRAs."""
        self.version = 0
        """A number that grows whenever a time has changed by more than noise."""
        self._told = 0
        self.learn(known or KnownTimes())

    def learn(self, known: KnownTimes) -> None:
        """Take times that were measured earlier, in the place of those that are known now."""
        for time in known.steps:
            cell = _Cell(time.seconds, deque([time.seconds] * ENOUGH, LATEST))
            self._cells.setdefault(time.kind, {})[time.evaluations] = cell
        if known.change:
            self.changed(known.change)
        self._answers.clear()

    def called(self, kind: Kind, evaluations: int, seconds: float) -> None:
        """A call took so long."""
        self._calls[kind] = calls = self._calls.get(kind, 0) + 1
        cells = self._cells.setdefault(kind, {})
        cell = cells.get(evaluations)
        if cell is None or calls - cell.at > STALE:
            cells[evaluations] = cell = _Cell(seconds)
        cell.at = calls
        cell.latest.append(seconds)
        if len(cell.latest) == ENOUGH or calls % ENOUGH == 0:
            usual = sorted(cell.latest)[len(cell.latest) // 4]
            self._learn(cell, usual, new=len(cell.latest) == ENOUGH)

    def _learn(self, cell: _Cell, seconds: float, *, new: bool) -> None:
        if new or abs(seconds - cell.seconds) > NOISE * cell.seconds:
            cell.seconds = seconds
            self._answers.clear()
            self.version += 1

    def changed(self, seconds: float) -> None:
        """A change of LoRAs took so long."""
        self._changes.append(seconds)
        self.change = median(self._changes)

    def seconds(self, kind: Kind, evaluations: int) -> float:
        """The time of a call, measured or predicted."""
        answer = self._answers.get((kind, evaluations))
        if answer is None:
            answer = self._answers[kind, evaluations] = self._predicted(kind, evaluations)
        return answer

    def known(self) -> KnownTimes:
        """The measured times."""
        steps = [
            StepTime(kind, evaluations, seconds)
            for kind in self._cells
            for evaluations, seconds in sorted(self._measured(kind).items())
        ]
        return KnownTimes(steps, self.change)

    def news(self) -> KnownTimes | None:
        """The measured times where they have changed since the last news; None otherwise."""
        if self.version == self._told:
            return None
        self._told = self.version
        return self.known()

    def _measured(self, kind: Kind) -> Mapping[int, float]:
        calls = self._calls.get(kind, 0)
        return {
            evaluations: cell.seconds
            for evaluations, cell in self._cells.get(kind, {}).items()
            if len(cell.latest) >= ENOUGH and calls - cell.at <= STALE
        }

    def _predicted(self, kind: Kind, evaluations: int) -> float:
        measured = self._measured(kind)
        if measured:
            return _interpolated(measured, evaluations)
        others = [other for other in self._cells if self._measured(other)]
        if not others:
            return _interpolated({1: NOMINAL * kind.area}, evaluations)
        nearest = min(others, key=lambda other: _distance(kind, other))
        return self.seconds(nearest, evaluations) * kind.area / nearest.area


def _distance(kind: Kind, other: Kind) -> tuple[float, bool]:
    return abs(math.log(kind.area / other.area)), kind.adapted != other.adapted


def _interpolated(measured: Mapping[int, float], evaluations: int) -> float:
    if evaluations in measured:
        return measured[evaluations]
    below = sorted(each for each in measured if each < evaluations)
    above = min((each for each in measured if each > evaluations), default=None)
    if not below:
        assert above is not None
        return measured[above] * evaluations / above
    near = below[-1]
    proportional = measured[near] * evaluations / near
    if above is None and len(below) == 1:
        return measured[near] + HOPED * (proportional - measured[near])
    other = above if above is not None else below[-2]
    slope = (measured[other] - measured[near]) / (other - near)
    line = measured[near] + slope * (evaluations - near)
    # More evaluations never take less time: a falling line is noise.
    return min(max(line, measured[near]), proportional)

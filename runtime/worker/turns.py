"""The model whose call is next, of those that are loaded and have pictures to draw.

Models take turns by the call. The picture that came first has its model called until it is drawn,
and interactive pictures go before those of batch priority, which get BATCH_SHARE of the time while
interactive ones never end, as among the pictures of one model.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.draw.schedule import BATCH_SHARE


class Waiting(Protocol):
    """A picture that is being drawn or ready for that, as `runtime.worker.task` has it."""

    urgent: bool
    arrived: float
    """When it was submitted, in seconds of any one clock."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The claim of a model to the next call: that of its first picture, interactive ones first."""

    urgent: bool
    arrived: float


def claim_of(pictures: Collection[Waiting]) -> Claim:
    """The claim of a model with these pictures. One without any comes first: its call ends a loop
    and draws nothing.
    """
    urgent = [each.arrived for each in pictures if each.urgent]
    arrived = urgent or [each.arrived for each in pictures]
    return Claim(bool(urgent) or not pictures, min(arrived, default=float("-inf")))


@dataclass(slots=True)
class Turns:
    """Chooses among models."""

    passed: float = 0.0
    """Seconds of calls for interactive pictures since the last for those of batch priority."""
    batch_call: float = 0.0
    """Seconds of the last call for pictures of batch priority."""

    def next(self, claims: Sequence[Claim]) -> int:
        """The index of the claim whose model is called; there must be at least one."""
        urgent = [index for index, claim in enumerate(claims) if claim.urgent]
        batch = [index for index, claim in enumerate(claims) if not claim.urgent]
        if not batch:
            self.passed = 0.0
        owed = self.passed >= (1 / BATCH_SHARE - 1) * self.batch_call
        chosen = batch if not urgent or (batch and owed and self.passed) else urgent
        return min(chosen, key=lambda index: claims[index].arrived)

    def called(self, claim: Claim, seconds: float) -> None:
        """A call for this claim has taken so long."""
        if claim.urgent:
            self.passed += seconds
        else:
            self.passed, self.batch_call = 0.0, seconds

"""Bounds of retention: how long ended jobs and pictures stay, so that nothing grows without end.

The settings import this module before the worker is started: it imports nothing of ours.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """The bounds; None is none."""

    job_days: float | None = 30.0
    """Age of ended jobs without a picture. Those with one stay with it."""
    job_count: int | None = None
    """Number of ended jobs without a picture: those that ended first go first."""
    picture_days: float | None = None
    """Age of pictures."""
    picture_count: int | None = None
    """Number of pictures: the oldest go first."""
    picture_bytes: int | None = None
    """Size of all pictures together: the oldest go first."""

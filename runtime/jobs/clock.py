"""Notices that somebody has moved the time of day, by which the ages of jobs and pictures go.

Deadlines go by clocks that nobody moves; what is kept over a restart cannot.
"""

import time
from collections.abc import Callable

LEAST_MOVE = 60.0
"""Seconds; less is how clocks are kept right."""


def since_boot() -> float:
    """Seconds that have passed since the start of the machine, asleep or not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """The time of day beside the time since the start of the machine."""

    def __init__(
        self,
        time_of_day: Callable[[], float] = time.time,
        passed: Callable[[], float] = since_boot,
    ) -> None:
        """The time of day is taken to be right now."""
        self._time_of_day = time_of_day
        self._passed = passed
        self._apart = time_of_day() - passed()

    def moved(self) -> str:
        """A sentence on a move of the time of day since the last look; empty for none."""
        before, self._apart = self._apart, self._time_of_day() - self._passed()
        seconds = self._apart - before
        if abs(seconds) < LEAST_MOVE:
            return ""
        way = "forward" if seconds > 0 else "back"
        return (
            f"the time of day was moved {way} by {abs(seconds):.0f} s: nothing is deleted by its "
            "age for an hour; if it is wrong, set it right until then"
        )

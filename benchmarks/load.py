"""Load on a server: clients that each ask for the next picture when one is done, or arrivals.

Arrivals have their times before the load begins. A picture's wait counts from the time at which its
request was due, so that a server that holds up its clients does not look faster for that.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """Picture as a client of any server saw it."""

    fault: str | None
    """None for a picture that is there."""
    preview: float | None = None
    """Seconds from the request to the first preview; None where there was none."""


Ask = Callable[[Body], Seen]
"""Asks a server for a picture and waits for it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request of a load; seconds from the begin of the load."""

    due: float
    begun: float
    ended: float
    seen: Seen

    @property
    def wait(self) -> float:
        """Seconds from the time at which the request was due to the picture."""
        return self.ended - self.due

    @property
    def first_preview(self) -> float | None:
        """Seconds from the time at which the request was due to the first preview."""
        preview = self.seen.preview
        return None if preview is None else self.begun - self.due + preview


@dataclass(frozen=True, slots=True)
class Load:
    """Outcomes of a load, in the order of the requests."""

    outcomes: tuple[Outcome, ...]

    @property
    def faults(self) -> list[str]:
        """Reasons of the pictures that are missing."""
        return [each.seen.fault for each in self.outcomes if each.seen.fault]

    @property
    def waits(self) -> list[float]:
        """Seconds of every request."""
        return [each.wait for each in self.outcomes]

    @property
    def rate(self) -> float:
        """Pictures a second, from the begin to the last end."""
        return len(self.outcomes) / max(each.ended for each in self.outcomes)

    @property
    def rate_in_a_row(self) -> float | None:
        """Pictures a second between the first end and the last: neither the first picture nor the
        idle clients at the end count. None for one picture.
        """
        ends = sorted(each.ended for each in self.outcomes)
        spanned = ends[-1] - ends[0]
        return (len(ends) - 1) / spanned if spanned else None


def closed(ask: Ask, bodies: Sequence[Body], clients: int) -> Load:
    """Draw a picture of each body, always `clients` of them at once; each is due when a client is
    free.
    """
    clock = _Clock()

    def drawn(body: Body) -> Outcome:
        due = clock.now()
        return _outcome(clock, ask, body, due)

    with ThreadPoolExecutor(clients, "client") as pool:
        return Load(tuple(pool.map(drawn, bodies)))


def arriving(ask: Ask, bodies: Sequence[Body], due: Sequence[float]) -> Load:
    """Draw a picture of each body; its request is sent at its due time, whatever is on its way."""
    with ThreadPoolExecutor(len(bodies), "client") as pool:
        clock = _Clock()
        waiting = []
        for body, second in zip(bodies, due, strict=True):
            time.sleep(max(0.0, second - clock.now()))
            waiting.append(pool.submit(_outcome, clock, ask, body, second))
        return Load(tuple(each.result() for each in waiting))


def poisson(count: int, rate: float, seed: int) -> Iterator[float]:
    """Due times of requests that arrive independently of each other, `rate` a second on average."""
    chance, second = random.Random(seed), 0.0
    for _ in range(count):
        second += chance.expovariate(rate)
        yield second


class _Clock:
    """Seconds since the clock was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._began


def _outcome(clock: _Clock, ask: Ask, body: Body, due: float) -> Outcome:
    begun = clock.now()
    seen = ask(body)
    return Outcome(due, begun, clock.now(), seen)

"""Loads on a stand-in for a server: when requests come, and how waits are counted."""

import threading
from collections.abc import Mapping
from itertools import pairwise
from statistics import fmean
from typing import Any

import pytest

from benchmarks.load import Load, Outcome, Seen, arriving, closed, poisson


class Counting:
    """A server that notes how many requests it has at once."""

    def __init__(self, together: int) -> None:
        """No request is answered before `together` of them are there."""
        self._barrier = threading.Barrier(together)
        self._lock = threading.Lock()
        self.here = 0
        self.most = 0

    def ask(self, _body: Mapping[str, Any]) -> Seen:
        with self._lock:
            self.here += 1
            self.most = max(self.most, self.here)
        self._barrier.wait(timeout=30)
        with self._lock:
            self.here -= 1
        return Seen(None)


def test_a_closed_load_has_as_many_requests_at_once_as_clients() -> None:
    server = Counting(together=3)
    load = closed(server.ask, [{}] * 9, clients=3)
    assert server.most == 3
    assert len(load.outcomes) == 9
    assert load.faults == []


def test_arrivals_do_not_wait_for_each_other() -> None:
    # None of the four is answered before all are there.
    server = Counting(together=4)
    load = arriving(server.ask, [{}] * 4, [0.0, 0.001, 0.002, 0.003])
    assert server.most == 4
    assert [outcome.due for outcome in load.outcomes] == [0.0, 0.001, 0.002, 0.003]
    assert all(outcome.begun >= outcome.due for outcome in load.outcomes)


def test_a_wait_begins_when_the_request_was_due() -> None:
    late = Outcome(due=1.0, begun=3.0, ended=7.0, seen=Seen(None, preview=0.5))
    assert late.wait == 6.0
    assert late.first_preview == 2.5
    assert Outcome(0.0, 0.0, 1.0, Seen(None)).first_preview is None


def test_pictures_a_second_and_those_in_a_row() -> None:
    outcomes = tuple(Outcome(0.0, 0.0, end, Seen(None)) for end in (2.0, 3.0, 4.0))
    load = Load(outcomes)
    assert load.rate == 0.75
    assert load.rate_in_a_row == 1.0
    assert Load(outcomes[:1]).rate_in_a_row is None


def test_missing_pictures_are_told() -> None:
    load = closed(lambda body: Seen(body["fault"]), [{"fault": None}, {"fault": "lost"}], 1)
    assert load.faults == ["lost"]


def test_poisson_arrivals_are_the_same_again_and_have_their_rate() -> None:
    due = list(poisson(4000, 5.0, seed=1))
    assert due == list(poisson(4000, 5.0, seed=1))
    assert due != list(poisson(4000, 5.0, seed=2))
    gaps = [after - before for before, after in pairwise([0.0, *due])]
    assert min(gaps) >= 0
    # The mean of 4,000 exponential gaps lies within 5 % of 1 / rate but for one seed in a thousand.
    assert fmean(gaps) == pytest.approx(0.2, rel=0.05)

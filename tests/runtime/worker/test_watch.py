from collections.abc import Iterator
from contextlib import suppress

import pytest

from runtime.errors import BackendError
from runtime.worker import watch as watched
from runtime.worker.watch import Limits, Watch

JOB = "a" * 32


class Clock:
    """The seconds that the watch sees."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(watched.time, "monotonic", clock)
    return clock


def seen(watch: Watch, clock: Clock, seconds: float, pixels: int = 64 * 64) -> None:
    """Let a step take so long, and end."""
    with watch.stage("a step", pixels=pixels):
        clock.now += seconds


def test_a_stage_of_a_new_kind_has_the_time_of_a_first_one(clock: Clock) -> None:
    watch = Watch(Limits(known=10, first=100))
    with watch.stage("decoding", JOB, 64 * 64):
        clock.now += 100
        assert watch.overdue() == ""
        clock.now += 1
        assert watch.overdue() == (
            f"decoding of job {JOB} has taken 101 s where 100 s are the most; "
            "if this machine is so slow, raise --load-seconds"
        )
    assert watch.overdue() == ""


def test_a_known_stage_has_the_least_limit_or_ten_times_its_longest(clock: Clock) -> None:
    watch = Watch(Limits(known=10, first=100))
    for longest, limit in (0.5, 10), (3, 30), (1, 30):
        seen(watch, clock, longest)
        with watch.stage("a step", pixels=64 * 64):
            clock.now += limit
            assert watch.overdue() == ""
            clock.now += 0.1
            assert "--stall-seconds" in watch.overdue()
        watch = Watch(Limits(known=10, first=100))
        seen(watch, clock, 3)


def test_pictures_of_another_size_are_another_kind(clock: Clock) -> None:
    watch = Watch(Limits(known=10, first=100))
    seen(watch, clock, 0.5)
    with watch.stage("a step", pixels=1024 * 1024):
        clock.now += 50
        assert watch.overdue() == ""


def test_a_stage_that_failed_is_no_measure(clock: Clock) -> None:
    watch = Watch(Limits(known=10, first=100))
    with suppress(BackendError), watch.stage("a step"):
        clock.now += 50
        raise BackendError("the device is lost")
    with watch.stage("a step"):
        clock.now += 60
        assert watch.overdue() == ""


def test_of_stages_on_several_threads_the_late_one_is_told(clock: Clock) -> None:
    watch = Watch(Limits(known=10, first=100))
    with watch.stage("saving the picture", JOB):
        clock.now += 60
        with watch.stage("a step"):
            clock.now += 50
            assert watch.overdue().startswith(f"saving the picture of job {JOB} has taken 110 s")


def test_the_times_of_stages_of_jobs_are_given_once(clock: Clock) -> None:
    watch = Watch(Limits(known=10, first=100))
    with watch.stage("reading the package"):
        clock.now += 5
    seen(watch, clock, 0.5)
    with watch.stage("decoding", JOB):
        clock.now += 2
    with suppress(BackendError), watch.stage("decoding", JOB):
        raise BackendError("broken")
    assert watch.ended() == {"decode": [2]}
    assert watch.ended() == {}

"""The loop's times outside of the denoiser's calls, by a clock that the test moves."""

from runtime.draw.pace import Pace


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def call(pace: Pace, clock: Clock, seconds: float) -> None:
    pace.call_begins(1)
    clock.now += seconds
    pace.call_returned()


def test_host_time_is_that_between_two_calls() -> None:
    clock = Clock()
    pace = Pace(clock)
    call(pace, clock, 4)
    for _ in range(2):
        clock.now += 0.5
        call(pace, clock, 4)
    assert (pace.calls, pace.host_seconds) == (2, 1.0)
    assert list(pace.call_seconds) == [4, 4, 4]
    pace.restart()
    assert (pace.calls, pace.host_seconds, pace.starts, pace.idle_seconds) == (0, 0, 0, 0)


def test_idle_time_is_that_of_a_rest_in_which_a_picture_was_wanted() -> None:
    clock = Clock()
    pace = Pace(clock)
    clock.now += 8
    pace.wanted(clock.now)
    clock.now += 2
    call(pace, clock, 4)
    assert (pace.calls, pace.starts, pace.idle_seconds) == (0, 1, 2)
    wanted_at = clock.now - 1
    pace.rests()
    clock.now += 0.25
    pace.wanted(wanted_at)
    call(pace, clock, 4)
    # The loop was busy when the second picture was asked for.
    assert (pace.calls, pace.starts, pace.idle_seconds) == (0, 2, 2.25)


def test_the_first_picture_that_was_wanted_counts() -> None:
    clock = Clock()
    pace = Pace(clock)
    for wanted in (101.0, 104.0, 103.0):
        pace.wanted(wanted)
    clock.now = 105.0
    call(pace, clock, 4)
    assert (pace.starts, pace.idle_seconds) == (1, 4)


def test_a_call_for_which_nobody_waited_ends_no_idle_time() -> None:
    clock = Clock()
    pace = Pace(clock)
    clock.now += 8
    call(pace, clock, 4)
    assert (pace.starts, pace.idle_seconds) == (1, 0)


def test_a_picture_that_joins_others_ends_no_rest() -> None:
    clock = Clock()
    pace = Pace(clock)
    call(pace, clock, 4)
    pace.wanted(clock.now - 3)
    clock.now += 0.5
    call(pace, clock, 4)
    assert (pace.calls, pace.host_seconds, pace.starts) == (1, 0.5, 1)


def test_calls_are_counted_by_their_samples_and_changes_of_loras_by_their_time() -> None:
    pace = Pace(Clock())
    for samples in (1, 4, 4):
        pace.call_begins(samples)
        pace.call_returned()
    for seconds in (0.5, 0.25):
        pace.loras_changed(seconds)
    assert pace.batches == {1: 1, 4: 2}
    assert sum(pace.batches.values()) == pace.calls + pace.starts
    assert (pace.lora_changes, pace.lora_seconds) == (2, 0.75)
    pace.restart()
    assert (pace.batches, pace.lora_changes, pace.lora_seconds) == ({}, 0, 0)

"""The demand, as the jobs that arrive teach it."""

import pytest

from runtime.draw.demand import FULLEST, Demand


def demand(gap: float, work: float, jobs: int = 200) -> Demand:
    learned = Demand()
    for number in range(jobs):
        learned = learned.after(gap * number, work)
    return learned


def test_nothing_is_expected_before_two_jobs_have_come() -> None:
    assert (Demand().rate, Demand().patience) == (0.0, 0.0)
    once = Demand().after(5.0, 1.0)
    assert (once.rate, once.load, once.patience) == (0.0, 0.0, 0.0)


def test_load_and_rate_are_those_of_the_jobs() -> None:
    learned = demand(gap=4.0, work=3.0)
    assert learned.load == pytest.approx(0.75)
    assert learned.rate == pytest.approx(0.25)


def test_more_work_than_time_is_a_full_load() -> None:
    for gap in (0.0, 0.5):
        learned = demand(gap, work=1.0)
        assert learned.load == FULLEST
        assert learned.rate == pytest.approx(FULLEST)


def test_patience_grows_with_the_load() -> None:
    idle, busy = demand(100.0, 1.0), demand(1.1, 1.0)
    assert busy.patience > 2 * idle.patience > 0


def test_a_night_after_the_first_job_is_soon_forgotten() -> None:
    learned = Demand().after(0.0, 3.0)
    for number in range(4):
        learned = learned.after(8 * 3600 + 4.0 * number, 3.0)
    assert learned.load > 0.1


def test_a_night_without_jobs_is_soon_forgotten() -> None:
    learned = demand(gap=4.0, work=3.0)
    morning = learned.latest + 8 * 3600
    for number in range(3):
        learned = learned.after(morning + 4.0 * number, 3.0)
    assert learned.load > 0.5

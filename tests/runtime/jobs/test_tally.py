"""Values counted by their size."""

from runtime.jobs.tally import Tally


def test_values_are_counted_by_the_least_bound_that_they_do_not_exceed() -> None:
    tally = Tally((1, 2.5, 10))
    for value in (0.5, 1, 1.1, 10, 11):
        tally.add(value)
    tally.add(2, times=3)
    assert tally.counts == [2, 4, 1, 1]
    assert tally.total == 29.6
    assert list(tally.cumulative()) == [("1.0", 2), ("2.5", 6), ("10.0", 7), ("+Inf", 8)]

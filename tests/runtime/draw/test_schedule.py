"""The schedule learns from the calls that were made, and keeps its choice meanwhile."""

from dataclasses import dataclass

from runtime.draw.costs import ENOUGH, Costs, Kind
from runtime.draw.schedule import BATCH_SHARE, Schedule, places_for
from runtime.plan.served import BatchLimits

KIND = Kind(8, 8, adapted=False)
LARGE = Kind(64, 64, adapted=False)
LIMITS = BatchLimits(4, 8)


@dataclass(eq=False)
class Waiting:
    """A sample as the policy sees it."""

    rows_left: int = 20
    next_evaluations: int = 2
    arrived: float = 0.0
    kind: Kind = KIND
    shape_key: tuple[object, ...] = ()
    loras: object = ()
    urgent: bool = True


def test_more_samples_are_held_than_fit_in_a_call() -> None:
    for samples in (1, 4, 16):
        assert places_for(BatchLimits(samples, 32)) > samples


def test_calls_that_are_alike_and_follow_one_another_are_measured() -> None:
    schedule = Schedule(LIMITS)
    sample = Waiting()
    schedule.begun()
    for _ in range(ENOUGH + 1):
        schedule.called([sample])
    (known,) = schedule.costs.known().steps
    assert known[:2] == (KIND, 2)


def test_a_call_after_another_kind_or_after_a_pause_is_not_measured() -> None:
    schedule = Schedule(LIMITS)
    guided, plain = Waiting(), Waiting(next_evaluations=1)
    for _ in range(2 * ENOUGH):
        schedule.called([guided])
        schedule.called([plain])
        schedule.called([plain])
        schedule.begun()
        schedule.called([plain])
    assert [time.evaluations for time in schedule.costs.known().steps] == [1]


def test_sharing_is_tried_until_it_is_known_to_save_nothing() -> None:
    costs = Costs()
    schedule = Schedule(LIMITS, costs)
    for _ in range(ENOUGH):
        costs.called(KIND, 2, 1.0)
    pair = [Waiting(), Waiting()]
    for sample in pair:
        schedule.arrived(sample)
    assert len(schedule.turn(pair, ())) == 2
    for _ in range(ENOUGH):
        costs.called(KIND, 4, 2.0)
    assert len(schedule.turn(pair, ())) == 1


def test_a_choice_is_kept_until_a_sample_comes_or_leaves() -> None:
    costs = Costs()
    for _ in range(ENOUGH):
        costs.called(KIND, 2, 1.0)
        costs.called(KIND, 4, 2.0)
    schedule = Schedule(LIMITS, costs)
    long, short = Waiting(50), Waiting(4, arrived=1.0)
    schedule.arrived(long)
    assert schedule.turn([long], ()) == [long]
    schedule.arrived(short)
    assert schedule.turn([long, short], ()) == [short]
    short.rows_left = 1
    assert schedule.turn([long, short], ()) == [short]
    assert schedule.turn([long], ()) == [long]


def test_a_batch_job_beside_endless_interactive_ones_gets_its_share_of_the_time() -> None:
    costs = Costs()
    for _ in range(ENOUGH):
        costs.called(KIND, 2, 0.125)
        costs.called(LARGE, 2, 3.0)
    schedule = Schedule(LIMITS, costs)
    batch = Waiting(kind=LARGE, urgent=False, shape_key=("large",))
    soon = Waiting(arrived=1e6)
    between = round(3.0 / 0.125 * (1 / BATCH_SHARE - 1))
    calls = [schedule.turn([batch, soon], ()) for _ in range(10 * (between + 1))]
    assert calls == [*[[soon]] * between, [batch]] * 10


def test_a_pause_of_interactive_jobs_begins_the_account_anew() -> None:
    costs = Costs()
    for _ in range(ENOUGH):
        costs.called(KIND, 2, 1.0)
    schedule = Schedule(LIMITS, costs)
    batch = Waiting(urgent=False, shape_key=("another",))
    for _ in range(20):
        for _ in range(5):
            soon = Waiting(arrived=1e6)
            assert schedule.turn([batch, soon], ()) == [soon]
        assert schedule.turn([batch], ()) == [batch]

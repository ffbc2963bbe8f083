"""The samples that share a call of the step graph, and the order in which samples are drawn."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.draw.batch import choose
from runtime.draw.costs import Costs, Kind, KnownTimes, StepTime
from runtime.draw.demand import Demand
from runtime.package.pack import LoraPack, LoraSet, PackRecord, PackSource
from runtime.plan.served import BatchLimits

RECORD = PackRecord("x", "x", "", 1.0, 0.5, PackSource("x", "0"), (), (), {})
INK: LoraSet = ((LoraPack("1", Path("ink"), RECORD), 1.0),)
OIL: LoraSet = ((LoraPack("2", Path("oil"), RECORD), 1.0),)
FAINT_INK: LoraSet = ((LoraPack("1", Path("ink"), RECORD), 0.5),)
SQUARE = Kind(16, 16, adapted=False)
WIDE = Kind(16, 32, adapted=False)


@dataclass(frozen=True)
class Waiting:
    """A sample as the policy sees it."""

    name: str
    kind: Kind = SQUARE
    next_evaluations: int = 2
    loras: LoraSet = ()
    rows_left: int = 20
    arrived: float = 0.0
    urgent: bool = True

    @property
    def shape_key(self) -> tuple[object, ...]:
        return self.kind


def costs(seconds: Callable[[int], float], change: float = 0.0) -> Costs:
    """A machine whose calls of either kind take so long for a number of evaluations."""
    steps = [
        StepTime(kind, evaluations, seconds(evaluations))
        for kind in (SQUARE, WIDE)
        for evaluations in range(1, 33)
    ]
    return Costs(KnownTimes(steps, change))


FREE = costs(lambda evaluations: 1.0 + 0.001 * evaluations)
"""More evaluations take hardly any more time."""
DEAR = costs(lambda evaluations: 0.5 * evaluations)
"""Two together take as long as one after the other."""
BUSY = Demand()
for number in range(40):
    BUSY = BUSY.after(40.0 * number, 30.0)


def names(
    waiting: list[Waiting],
    known: Costs = FREE,
    *,
    samples: int = 8,
    evaluations: int = 16,
    loaded: LoraSet = (),
    demand: Demand = BUSY,
) -> list[str]:
    limits = BatchLimits(samples, evaluations)
    return [sample.name for sample in choose(waiting, limits, loaded, known, demand)]


def test_nobody_waits() -> None:
    assert names([]) == []


def test_samples_of_one_shape_share_a_call_where_that_saves_time() -> None:
    waiting = [Waiting("a"), Waiting("b", WIDE), Waiting("c")]
    assert names(waiting) == ["a", "c"]


def test_the_first_to_come_is_alone_where_sharing_saves_nothing() -> None:
    waiting = [Waiting("b", arrived=1.0), Waiting("a"), Waiting("c", arrived=2.0)]
    assert names(waiting, DEAR) == ["a"]


def test_a_small_saving_is_worth_a_shared_call_only_to_a_crowd() -> None:
    saving = costs(lambda evaluations: 0.3 + 0.7 * evaluations / 2)
    idle = Demand().after(0.0, 14.0).after(1000.0, 14.0)
    crowd = Demand()
    for arrival in range(40):
        crowd = crowd.after(14.5 * arrival, 14.0)
    two = [Waiting("a"), Waiting("b")]
    assert names(two, saving, demand=idle) == ["a"]
    many = [Waiting(str(number)) for number in range(6)]
    assert len(names(many, saving, demand=crowd)) > 1


def test_limits_on_samples_and_evaluations_hold() -> None:
    three = [Waiting("a"), Waiting("b"), Waiting("c", next_evaluations=1)]
    assert len(names(three, samples=2)) == 2
    assert len(names(three, evaluations=4)) == 2


def test_the_first_is_taken_even_where_it_alone_is_over_the_limit() -> None:
    waiting = [Waiting("a", next_evaluations=9), Waiting("b", next_evaluations=9, arrived=1.0)]
    assert names(waiting, evaluations=4) == ["a"]


def test_samples_of_one_lora_set_share_a_call() -> None:
    waiting = [Waiting("a", loras=INK), Waiting("b", arrived=1.0)]
    waiting += [Waiting("c", loras=FAINT_INK, arrived=2.0), Waiting("d", loras=INK, arrived=3.0)]
    assert names(waiting, loaded=OIL) == ["a", "d"]


def test_a_change_of_loras_is_put_off_for_as_long_as_its_cost_allows() -> None:
    dear = costs(lambda evaluations: 0.5 * evaluations, change=5.0)
    cheap = costs(lambda evaluations: 0.5 * evaluations, change=0.001)
    soon, late = Waiting("ink", loras=INK, arrived=6.0), Waiting("ink", loras=INK, arrived=600.0)
    other = Waiting("oil", loras=OIL)
    assert names([other, soon], dear, loaded=INK) == ["ink"]
    assert names([other, soon], cheap, loaded=INK) == ["oil"]
    assert names([other, late], dear, loaded=INK) == ["oil"]


def test_a_short_job_passes_a_long_one_that_came_before() -> None:
    long, short = Waiting("long", rows_left=50), Waiting("short", rows_left=4, arrived=1.0)
    assert names([long, short], DEAR) == ["short"]


def test_a_long_job_is_passed_by_later_short_ones_for_a_bounded_time() -> None:
    long = Waiting("long", rows_left=50)
    late = Waiting("short", rows_left=4, arrived=10 * BUSY.patience)
    assert names([long, late], DEAR) == ["long"]


def test_an_interactive_job_goes_before_a_batch_job_of_any_age() -> None:
    batch = Waiting("batch", rows_left=4, urgent=False)
    for arrived in (1.0, 1e6):
        assert names([batch, Waiting("interactive", arrived=arrived)], DEAR) == ["interactive"]


def test_batch_jobs_share_calls_that_hold_nobody_up_for_long() -> None:
    waiting = [Waiting(str(number), urgent=False) for number in range(8)]
    quick = costs(lambda evaluations: 0.1 + 0.001 * evaluations)
    slow = costs(lambda evaluations: 0.9 + 0.02 * evaluations)
    slower = costs(lambda evaluations: 2.0 + 0.02 * evaluations)
    assert len(names(waiting, quick)) == 8
    assert len(names(waiting, slow)) == 2
    assert len(names(waiting, slower)) == 1
    assert len(names([replace(each, urgent=True) for each in waiting], slower)) == 8


def test_batch_jobs_go_in_the_order_of_their_arrival() -> None:
    long, short = (
        Waiting("long", rows_left=50, urgent=False),
        Waiting("short", rows_left=4, arrived=1.0, urgent=False),
    )
    assert names([short, long], DEAR) == ["long"]

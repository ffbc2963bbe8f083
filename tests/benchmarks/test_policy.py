"""The product's choice of samples, held to its bar in simulation."""

import pytest

from benchmarks.loads import Scenario, jobs_of, kind_of
from benchmarks.policies import AlwaysBatch, ByCost, FirstComeFirstServed
from benchmarks.policy import BAR, LIMITS, MIXED, OURS, SIMPLE, point
from benchmarks.policy_chart import panels
from benchmarks.queueing import Job, Machine, simulate
from runtime.draw.schedule import BATCH_SHARE

JOBS = 2000
COMPARED = (*SIMPLE, OURS)
SIZE = 128
KIND = kind_of(SIZE)


def machine(saving: float, change: float = 0.0) -> Machine:
    """A machine on which `saving` of a call's time does not grow with its evaluations."""
    times = {2 * count: 0.02 * (saving + (1 - saving) * count) for count in (1, 2, 4, 8, 16)}
    return Machine({KIND: times}, change)


def job(arrived: float, rows: int = 10, **facts: object) -> Job:
    made = Job(arrived, KIND, rows)
    for name, value in facts.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("steps", [(20,), MIXED], ids=["equal", "mixed"])
@pytest.mark.parametrize("saving", [0.0, 0.3, 0.8])
def test_mean_and_p95_are_within_the_bar_of_the_better_simple_policy(
    saving: float, steps: tuple[int, ...]
) -> None:
    scenario = Scenario("", machine(saving), (SIZE,), steps)
    for load in (0.5, 0.8):
        share = point(scenario, load, JOBS, 1, COMPARED)["share_of_better"]
        assert share["mean"] <= BAR, load
        assert share["p95"] <= BAR, load
        if not saving and len(steps) > 1:
            assert share["mean"] < 0.95, load


def test_a_mixed_load_that_comes_in_crowds_waits_less_than_by_either_simple_policy() -> None:
    scenario = Scenario("", machine(0.3), (SIZE,), MIXED, crowds=True)
    for load in (0.5, 0.9):
        share = point(scenario, load, JOBS, 1, COMPARED)["share_of_better"]
        assert max(share["mean"], share["p95"]) < 1


def test_changes_of_loras_are_saved() -> None:
    scenario = Scenario("", machine(0.0, change=1.0), (SIZE,), MIXED, sets=3)
    share = point(scenario, 0.8, JOBS, 1, COMPARED)["share_of_better"]
    assert max(share["mean"], share["p95"]) < 0.8


def test_no_job_waits_for_ever_under_a_flood_of_short_jobs() -> None:
    flood = [job(0.1 * number, rows=4) for number in range(2000)]
    long = job(1.0, rows=200)
    batch = job(1.0, rows=4, urgent=False)
    other = job(1.0, rows=4, loras="another")
    jobs = sorted([*flood, long, batch, other], key=lambda each: each.arrived)
    limits = machine(0.0)
    end = simulate(jobs, ByCost(LIMITS, limits.costs), limits)
    assert end > 100
    for waiting in (long, batch, other):
        assert waiting.ended - waiting.arrived < 90


def test_an_interactive_job_waits_for_one_step_of_a_large_batch_job_that_is_long_under_way() -> (
    None
):
    large = kind_of(8 * SIZE)
    known = {**machine(0.0).times, large: {2: 3.0}}
    beside = Machine(known)
    batch = Job(0.0, large, 200, urgent=False)
    soon = [job(20.0 * number + 1, rows=20) for number in range(25)]
    jobs = sorted([batch, *soon], key=lambda each: each.arrived)
    simulate(jobs, ByCost(LIMITS, beside.costs), beside)
    for each in soon:
        assert each.ended - each.arrived <= 20 * 0.02 + 3.0


def test_a_batch_job_is_done_within_its_share_of_the_time_under_an_endless_load() -> None:
    flood = [job(0.2 * number) for number in range(1000)]
    batch = [job(1.0, rows=30, urgent=False), job(1.1, rows=30, urgent=False)]
    limits = machine(0.0)
    jobs = sorted([*flood, *batch], key=lambda each: each.arrived)
    simulate(jobs, ByCost(LIMITS, limits.costs), limits)
    work = 0.0
    for each in batch:
        work += 30 * 0.02
        assert each.ended - each.arrived <= work / BATCH_SHARE + 1
    assert max(each.ended - each.arrived for each in flood) > 1


def test_the_first_come_is_served_first_and_alone() -> None:
    jobs = [job(0.0), job(0.1)]
    simulate(jobs, FirstComeFirstServed(), machine(0.0))
    assert [each.ended for each in jobs] == pytest.approx([0.2, 0.4])


def test_always_batch_lets_a_job_join_at_the_next_step() -> None:
    jobs = [job(0.0), job(0.1)]
    simulate(jobs, AlwaysBatch(LIMITS), machine(0.0))
    assert [each.ended for each in jobs] == pytest.approx([0.3, 0.4])


def test_a_load_is_the_share_of_time_that_one_by_one_takes() -> None:
    scenario = Scenario("", machine(0.0), (SIZE,), (20,))
    for crowds in (False, True):
        jobs = jobs_of(Scenario("", machine(0.0), (SIZE,), (20,), crowds=crowds), 0.5, 20000, 1)
        work = sum(map(scenario.machine.alone, jobs))
        assert work / jobs[-1].arrived == pytest.approx(0.5, rel=0.05)


def test_a_chart_has_a_panel_for_each_scenario() -> None:
    points = [
        point(Scenario(name, machine(0.0), (SIZE,), (20,)), load, 50, 1)
        for name in ("one & one", "two")
        for load in (0.3, 0.5)
    ]
    chart = panels(points, COMPARED)
    assert chart.count("<polyline") == 2 * len(COMPARED) * 2
    assert "one &amp; one" in chart

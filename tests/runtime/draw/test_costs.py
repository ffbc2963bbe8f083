"""The times of calls: measured, predicted, forgotten and kept."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.draw.costs import ENOUGH, STALE, Costs, Kind, KnownTimes, StepTime
from runtime.draw.kept_costs import KeptCosts

SMALL = Kind(8, 8, adapted=False)
LARGE = Kind(16, 16, adapted=False)
ADAPTED = Kind(8, 8, adapted=True)


def measured(*calls: tuple[Kind, int, float]) -> Costs:
    costs = Costs()
    for kind, evaluations, seconds in calls:
        for _ in range(ENOUGH):
            costs.called(kind, evaluations, seconds)
    return costs


def test_what_else_the_machine_does_now_and_then_is_not_part_of_a_time() -> None:
    costs = Costs()
    for number in range(3 * ENOUGH):
        costs.called(SMALL, 2, 50.0 if number % 2 else 2.0)
    assert costs.seconds(SMALL, 2) == 2.0


def test_a_first_call_is_not_believed() -> None:
    costs = measured((SMALL, 2, 1.0))
    costs.called(SMALL, 4, 99.0)
    assert costs.seconds(SMALL, 4) < 2.0


def test_an_unknown_larger_call_is_hoped_to_save_time_until_it_is_known() -> None:
    costs = measured((SMALL, 2, 1.0))
    assert 1.0 < costs.seconds(SMALL, 4) < 1.5
    for _ in range(ENOUGH):
        costs.called(SMALL, 4, 2.0)
    assert costs.seconds(SMALL, 4) == 2.0
    assert costs.seconds(SMALL, 8) == pytest.approx(4.0)


def test_between_known_calls_the_time_is_on_a_line_and_never_falls() -> None:
    costs = measured((SMALL, 2, 1.0), (SMALL, 8, 2.5))
    assert costs.seconds(SMALL, 4) == pytest.approx(1.5)
    assert measured((SMALL, 2, 1.0), (SMALL, 8, 0.5)).seconds(SMALL, 4) == 1.0


def test_fewer_evaluations_than_any_known_are_in_proportion() -> None:
    assert measured((SMALL, 4, 1.0)).seconds(SMALL, 1) == 0.25


def test_another_size_is_in_proportion_to_its_area() -> None:
    costs = measured((SMALL, 2, 1.0), (Kind(64, 64, adapted=False), 2, 1000.0))
    assert costs.seconds(LARGE, 2) == pytest.approx(4.0)
    assert measured((SMALL, 2, 1.0), (LARGE, 2, 7.0)).seconds(ADAPTED, 2) == 1.0


def test_an_unmeasured_model_has_times_that_grow_with_the_call() -> None:
    costs = Costs()
    assert 0 < costs.seconds(SMALL, 1) < costs.seconds(SMALL, 2) < 2 * costs.seconds(SMALL, 1)
    assert costs.seconds(LARGE, 1) == pytest.approx(4 * costs.seconds(SMALL, 1))


def test_a_time_that_is_old_is_hoped_anew() -> None:
    costs = measured((SMALL, 2, 1.0), (SMALL, 4, 2.0))
    for _ in range(STALE + 1):
        costs.called(SMALL, 2, 1.0)
    costs.called(SMALL, 2, 1.5)
    assert costs.known().steps == [StepTime(SMALL, 2, 1.0)]


def test_news_are_told_once() -> None:
    costs = measured((SMALL, 2, 1.0))
    assert costs.news() == KnownTimes([StepTime(SMALL, 2, 1.0)])
    assert costs.news() is None


def test_times_are_known_to_the_next_process(tmp_path: Path) -> None:
    kept = KeptCosts(tmp_path / "step_times.json", "this device")
    other = KeptCosts(tmp_path / "step_times.json", "another")
    costs = measured((SMALL, 2, 1.0), (ADAPTED, 4, 3.0))
    costs.changed(0.25)
    kept.write(costs.known())
    other.write(KnownTimes())
    again = Costs(kept.read())
    assert again.known() == costs.known()
    assert again.change == 0.25
    assert other.read() == KnownTimes()


def file(
    kind: Sequence[object] = (8, 8, False),
    evaluations: int = 2,
    seconds: float = 1,
    change: float = 0,
) -> str:
    """A file of one time."""
    known = {"steps": [[kind, evaluations, seconds]], "change": change}
    return json.dumps({"this device": known})


def test_a_file_of_one_time_is_read(tmp_path: Path) -> None:
    kept = KeptCosts(tmp_path / "step_times.json", "this device")
    kept.path.write_text(file())
    assert kept.read() == KnownTimes([StepTime(SMALL, 2, 1.0)])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 10_000,
        '{"this device": {"steps": "x"}}',
        *(file(seconds=seconds) for seconds in (0, -1, 5e-324, 1e308, math.inf, math.nan)),
        *(file(evaluations=evaluations) for evaluations in (0, -1, 10**400)),
        *(file((height, 8, False)) for height in (0, -8, 10**400)),
        *(file(change=seconds) for seconds in (-1, math.inf, math.nan)),
    ],
)
def test_a_damaged_file_is_begun_anew(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptCosts(tmp_path / "step_times.json", "this device")
    kept.path.write_text(content)
    assert kept.read() == KnownTimes()
    assert "measured anew" in caplog.text
    kept.write(KnownTimes(change=1.0))
    assert kept.read() == KnownTimes(change=1.0)

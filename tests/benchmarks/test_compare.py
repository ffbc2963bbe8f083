"""Verdicts on made-up results: what changed, and what lies within the noise."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare
from benchmarks.compare import Measured, Verdict, change_of, differences, read_figure

STEADY = (10.0, 10.1, 9.9, 10.05, 9.95, 10.0, 10.02)


def times(factor: float) -> tuple[float, ...]:
    return tuple(factor * value for value in STEADY)


@pytest.mark.parametrize(
    ("factor", "better", "verdict"),
    [
        (0.8, "lower", Verdict.BETTER),
        (1.25, "lower", Verdict.WORSE),
        (1.25, "higher", Verdict.BETTER),
        (0.8, "higher", Verdict.WORSE),
        (1.0, "lower", Verdict.SAME),
    ],
)
def test_a_change_beyond_the_noise_is_told(factor: float, better: str, verdict: Verdict) -> None:
    before = Measured(STEADY, "ms", better)
    change = change_of("step", before, Measured(times(factor), "ms", better), least=0.01)
    assert change.verdict is verdict
    assert change.relative == pytest.approx(factor - 1)
    assert change.noise is not None
    assert change.noise[0] <= factor - 1 <= change.noise[1]


def test_a_change_as_large_as_the_spread_is_within_noise() -> None:
    before = Measured((5.0, 20.0, 8.0, 15.0, 10.0, 11.0), "ms")
    after = Measured((6.0, 22.0, 9.0, 16.0, 11.0, 12.0), "ms")
    assert change_of("step", before, after, least=0.01).verdict is Verdict.SAME


def test_a_sure_change_smaller_than_the_least_does_not_count() -> None:
    one, other = Measured((10.0,) * 6, "ms"), Measured((10.05,) * 6, "ms")
    assert change_of("step", one, other, least=0.01).verdict is Verdict.SAME
    assert change_of("step", one, other, least=0.001).verdict is Verdict.WORSE


def test_few_values_say_nothing_about_noise() -> None:
    change = change_of("step", Measured((10.0,)), Measured((20.0,)), least=0.01)
    assert (change.verdict, change.noise, change.relative) == (Verdict.UNKNOWN, None, 1.0)


def test_two_results_of_one_distribution_are_seldom_said_to_differ() -> None:
    chance = random.Random(7)
    changed = 0
    for _ in range(40):
        one, other = (
            Measured(tuple(chance.lognormvariate(0, 0.2) for _ in range(15)), "ms")
            for _ in range(2)
        )
        changed += change_of("step", one, other, least=0.01).verdict is not Verdict.SAME
    # Of 40 intervals of 95 %, 2 miss in the mean; 8 or more of them in one run of a thousand.
    assert changed < 8


def test_a_bare_number_is_a_figure_of_one_value() -> None:
    assert read_figure(3) == Measured((3.0,))


def result(values: tuple[float, ...], cores: int = 2) -> dict[str, Any]:
    figure = {"unit": "ms", "better": "lower", "values": list(values)}
    return {"figures": {"step": figure}, "machine": {"cores": cores, "versions": {"numpy": "2"}}}


def test_another_machine_and_another_version_are_named() -> None:
    other = result(STEADY, cores=4)
    other["machine"]["versions"]["numpy"] = "3"
    found = differences(result(STEADY), other)
    assert found == ["another machine: cores was 2, is 4", "numpy was 2, is 3"]


@pytest.mark.parametrize(("factor", "code"), [(1.5, 1), (0.5, 0), (1.0, 0)])
def test_the_command_prints_what_changed(
    factor: float,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps(result(STEADY)))
    after.write_text(json.dumps(result(times(factor))))
    arguments = ["compare", str(before), str(after), "--strict"]
    monkeypatch.setattr("sys.argv", arguments)
    assert compare.main() == code
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"{int(factor < 1)} better, {int(factor > 1)} worse, of 1 figures"
    assert any(line.startswith("step") for line in said) == (factor != 1.0)


def test_a_result_without_figures_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.json"
    path.write_text("{}")
    monkeypatch.setattr("sys.argv", ["compare", str(path), str(path)])
    with pytest.raises(SystemExit, match=r"old\.json: no `figures`"):
        compare.main()

"""A visit to a GPU: bounded, each end kept, and gone on with where it stopped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import visit as module
from benchmarks.gpu.families import FAMILIES
from benchmarks.gpu.parts import FAILED, RAN, ROOT
from benchmarks.gpu.visit import VISIT, Work, stages, visit

STAND_IN = "tests.benchmarks.gpu.stand_in"


def work(what: str, name: str, folder: Path, most: float = 60) -> Work:
    return Work(name, most, (STAND_IN, what, "--output", str(folder / f"{name}.json")))


def test_work_that_fails_or_hangs_costs_no_other(tmp_path: Path) -> None:
    side_by_side = (work("fail", "first", tmp_path), work("hang", "second", tmp_path, 2))
    ended = visit([side_by_side, (work("run", "third", tmp_path),)], tmp_path, 120)
    assert [(each.name, each.outcome, each.code) for each in ended] == [
        ("first", FAILED, 1),
        ("second", FAILED, None),
        ("third", RAN, 0),
    ]
    assert "are not there" in (tmp_path / "first.log").read_text()


def test_what_ran_is_not_run_again_and_what_failed_is(tmp_path: Path) -> None:
    visit([(work("fail", "first", tmp_path),), (work("run", "second", tmp_path),)], tmp_path, 120)
    (tmp_path / "second.json").unlink()
    ended = visit(
        [(work("run", "first", tmp_path),), (work("run", "second", tmp_path),)], tmp_path, 120
    )
    assert {each.name: each.outcome for each in ended} == {"first": RAN, "second": RAN}
    assert not (tmp_path / "second.json").exists()
    assert len(json.loads((tmp_path / VISIT).read_text())) == 2


def test_a_part_ran_whatever_became_of_the_parts_before_it(tmp_path: Path) -> None:
    result = tmp_path / "gpu_sdxl.json"
    parts = {"served": {"outcome": FAILED}, "loras": {"outcome": RAN}}
    result.write_text(json.dumps({"parts": parts}))
    ended = visit(
        [
            (
                Work(
                    "served_sdxl",
                    60,
                    (STAND_IN, "fail", str(tmp_path / "part.json")),
                    (result, "served"),
                ),
            ),
            (
                Work(
                    "loras_sdxl",
                    60,
                    (STAND_IN, "fail", str(tmp_path / "part.json")),
                    (result, "loras"),
                ),
            ),
        ],
        tmp_path,
        120,
    )
    assert {each.name: each.outcome for each in ended} == {
        "served_sdxl": FAILED,
        "loras_sdxl": RAN,
    }


def test_nothing_begins_without_time_for_it(tmp_path: Path) -> None:
    assert visit([(work("run", "first", tmp_path),)], tmp_path, module.SHORTEST - 1) == []
    assert not (tmp_path / "first.log").exists()


def test_every_part_is_one_of_its_family(tmp_path: Path) -> None:
    everything = [each for stage in stages([*FAMILIES], tmp_path, tmp_path) for each in stage]
    names = [each.name for each in everything]
    assert len({*names}) == len(names)
    assert names[0] == "gpu_check"
    for family in FAMILIES:
        assert f"pictures_{family}" in names
    for each in everything:
        if each.command[0] == "benchmarks.gpu":
            command = [sys.executable, "-m", *each.command, "--needs"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def test_an_unknown_family_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["visit", "--work", str(tmp_path), "--results", str(tmp_path), "--families", "sdxl,sd9"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit):
        module.main()
    assert "sd9: expected some of sdxl" in capsys.readouterr().err

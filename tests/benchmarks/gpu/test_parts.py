"""Parts of a run: one that fails, hangs or is not there leaves what it found, and the others."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.families import FAMILIES
from benchmarks.gpu.parts import FAILED, NOT_THERE, RAN, Part, Place, parts_of, run

STAND_IN = "tests.benchmarks.gpu.stand_in"


def part(what: str, seconds: float = 60) -> Part:
    return Part(what, seconds, (STAND_IN, what))


def test_a_part_that_ran_has_its_result(tmp_path: Path) -> None:
    outcome = run(part("run"), tmp_path, 60)
    assert (outcome.outcome, outcome.result, outcome.reason) == (RAN, {"did": "run"}, "")
    assert "last_lines" not in outcome.as_json()


def test_a_part_that_fails_has_a_reason_and_what_it_had_found(tmp_path: Path) -> None:
    outcome = run(part("fail"), tmp_path, 60)
    assert outcome.outcome == FAILED
    assert outcome.reason == "ended with code 1: are not there"
    assert outcome.result == {"did": "fail"}
    assert outcome.as_json()["last_lines"] == [
        "this part is to fail",
        "the engines",
        "are not there",
    ]


def test_a_part_that_hangs_is_ended(tmp_path: Path) -> None:
    outcome = run(part("hang"), tmp_path, 3)
    assert (outcome.outcome, outcome.reason) == (FAILED, "not done in 3 s")


def test_a_part_without_a_result_failed(tmp_path: Path) -> None:
    (tmp_path / "silent.json").write_text('{"did": "something, in an earlier run"}')
    outcome = run(part("silent"), tmp_path, 60)
    assert (outcome.outcome, outcome.reason) == (FAILED, "ended without a result")
    assert outcome.result is None


def test_what_is_not_there_is_told_and_not_run(tmp_path: Path) -> None:
    place = Place(tmp_path / "engines", "mine", "onnxruntime-cpu", tmp_path / "source")
    given = {each.name: each for each in parts_of(FAMILIES["sdxl"], place, None)}
    assert [*given] == ["package", "served", "pictures", "loras", "plain", "diffusers"]
    for name, reason in ("package", "was there before"), ("diffusers", "no diffusers folder"):
        outcome = run(given[name], tmp_path, 60)
        assert outcome.outcome == NOT_THERE
        assert reason in outcome.reason
    for name in ("served", "pictures", "loras", "plain"):
        assert given[name].command


@pytest.mark.parametrize("name", FAMILIES)
def test_a_package_that_is_made_brings_the_checkpoint_for_diffusers(
    name: str, tmp_path: Path
) -> None:
    family = FAMILIES[name]
    place = Place(tmp_path / "engines", name, "onnxruntime-cpu", tmp_path / "source")
    unbuilt, *_ = parts_of(family, place, (name,))
    (place.engines / name).mkdir(parents=True)
    (place.engines / name / "manifest.json").touch()
    given = {each.name: each for each in parts_of(family, place, (name,))}
    assert unbuilt.about > given["package"].about
    assert given["package"].command == ("benchmarks.published_package", name)
    flags = given["diffusers"].command
    assert ("--negative" in flags) == family.negative
    assert flags[flags.index("--denoiser") + 1] == family.denoiser
    assert bool(given["loras"].command) == family.loras
    # A machine may be lent for a quarter of an hour; a package is made elsewhere for that.
    assert sum(each.about for each in given.values()) < 15 * 60


def measured(
    monkeypatch: pytest.MonkeyPatch, folder: Path, parts: Sequence[Part], *flags: str
) -> int:
    monkeypatch.setattr(command, "parts_of", lambda *_: iter(parts))
    folders = ["--work", str(folder / "work"), "--output", str(folder / "result.json")]
    monkeypatch.setattr(sys, "argv", ["gpu", "sdxl", *folders, *flags])
    return command.main()


def outcomes(folder: Path) -> dict[str, str]:
    result = json.loads((folder / "result.json").read_text())
    return {name: each["outcome"] for name, each in result["parts"].items()}


def test_a_failed_part_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Part("nothing", 0, (), "nobody made it")
    assert measured(monkeypatch, tmp_path, [part("fail"), nothing, part("run")]) == 1
    assert outcomes(tmp_path) == {"fail": FAILED, "nothing": NOT_THERE, "run": RAN}
    result = json.loads((tmp_path / "result.json").read_text())
    assert {row["is"] for row in result["aims"]} == {"not measured"}


def test_some_parts_are_measured_again_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [part("run"), part("silent"), part("fail")]
    assert measured(monkeypatch, tmp_path, parts) == 1
    mended = [part("run"), part("silent"), Part("fail", 60, (STAND_IN, "run"))]
    assert measured(monkeypatch, tmp_path, mended, "--only", "fail") == 1
    assert outcomes(tmp_path) == {"run": RAN, "silent": FAILED, "fail": RAN}
    with pytest.raises(SystemExit, match="no such part; there are run, silent, fail"):
        measured(monkeypatch, tmp_path, parts, "--only", "none")


def test_without_time_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, tmp_path, [part("run")], "--seconds", "0") == 1
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["parts"]["run"]["reason"] == "no time was left: see --seconds"

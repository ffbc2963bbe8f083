"""A package to be measured: what is there is kept, and what did not pass serves for times alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import build_memory, published_package
from runtime.package.engine_record import EngineCheck
from runtime.package.target import Target, read_target
from tests.places import ENGINES
from tests.runtime.package.targets import PASSED, Made, add_target

OFF = EngineCheck(largest_error=0.5, tolerance=0.01, outputs={"hidden_states": 0.5})


class Workplace:
    """A folder with a checkpoint and a package that are there already."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.asked: list[tuple[str, ...]] = []
        self.after = PASSED
        self.package = folder / "engines" / "demo"
        shutil.copytree(ENGINES / "demo", self.package, ignore=shutil.ignore_patterns("targets"))
        source = folder / "sources" / "demo"
        source.mkdir(parents=True)
        (source / "model_index.json").write_text("{}")
        monkeypatch.setattr(published_package, "_engine_build", self._engine_build)
        monkeypatch.setattr(published_package, "_gpu_here", lambda: "sm_90")
        self._monkeypatch = monkeypatch

    def add_target(self, check: EngineCheck | None) -> Target:
        made = Made("onnxruntime-cuda", "1.31.1", "sm_90", check=check)
        return add_target(self.package, made)

    def made(self) -> dict[str, Any]:
        output = self.folder / "result.json"
        flags = ["demo", "--work", str(self.folder), "--output", str(output)]
        self._monkeypatch.setattr(sys, "argv", ["published_package", *flags])
        published_package.main()
        found: dict[str, Any] = json.loads(output.read_text())
        return found

    def _engine_build(self, *arguments: str, engines: Path, seconds: float | None = None) -> None:
        assert engines == self.folder / "engines"
        self.asked.append(arguments)
        if arguments[0] == "compile":
            self.add_target(self.after)
        if self.after is not PASSED:
            raise subprocess.CalledProcessError(1, f"{arguments[0]} in {seconds} s")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    return Workplace(tmp_path, monkeypatch)


def test_a_verified_target_is_kept(workplace: Workplace) -> None:
    target = workplace.add_target(PASSED)
    content = (target.path / "target.json").read_bytes()
    found = workplace.made()
    assert (found["build"], workplace.asked) == (None, [])
    assert (found["target"]["verified"], found["target"]["name"]) == (True, target.name)
    assert (target.path / "target.json").read_bytes() == content
    assert found["seconds"].keys() == {"checkpoint", "package", "target"}


def test_a_target_is_compiled_for_the_gpu_that_is_here(workplace: Workplace) -> None:
    found = workplace.made()
    [(command, name, *flags)] = workplace.asked
    assert (command, name) == ("compile", "demo")
    assert flags == ["--backend", "onnxruntime-cuda", "--sizes", "1024x1024", "--gpu", "sm_90"]
    assert found["target"]["verified"]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_target_that_did_not_pass_serves_for_times_and_the_result_says_so(
    workplace: Workplace, compiled: bool
) -> None:
    workplace.after = OFF
    if not compiled:
        workplace.add_target(OFF)
    found = workplace.made()["target"]
    assert [command for command, *_ in workplace.asked] == ["compile" if compiled else "verify"]
    assert not found["verified"]
    assert "returned non-zero exit status 1" in found["not_verified_because"]
    record = read_target(workplace.package / "targets" / found["name"]).record
    assert record.verified
    assert found["timing_alone"] == [*record.engines]
    assert {each.check.largest_error for each in record.engines.values() if each.check} == {0.5}
    assert found["checks"]["text_encoder"]["largest_error"] == 0.5


def test_a_target_that_was_never_checked_serves_with_an_error_of_no_measurement(
    workplace: Workplace,
) -> None:
    target = workplace.add_target(None)
    workplace.after = OFF
    first, again = (workplace.made()["target"] for _ in range(2))
    assert [command for command, *_ in workplace.asked] == ["verify"]
    for found in first, again:
        assert not found["verified"]
        assert found["timing_alone"] == [*target.record.engines]
        assert {check["largest_error"] for check in found["checks"].values()} == {-1}
    assert "an earlier call" in again["not_verified_because"]


def test_a_target_for_another_gpu_is_left_as_it_is(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = workplace.add_target(None)
    monkeypatch.setattr(published_package, "_gpu_here", lambda: None)
    flags = ["published_package", "demo", "--work", str(workplace.folder), "--gpu", "sm_90"]
    monkeypatch.setattr(sys, "argv", flags)
    published_package.main()
    assert workplace.asked == []
    assert not read_target(target.path).record.verified


@pytest.mark.parametrize("in_place", [True, False])
def test_weights_are_left_where_they_are_at_the_cost_of_loras(
    in_place: bool, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def measure(_source: Path, _engines: Path, _name: str, flags: list[str]) -> list[Any]:
        asked.append(flags)
        return []

    shutil.rmtree(workplace.package)
    monkeypatch.setattr(build_memory, "measure", measure)
    monkeypatch.setattr(published_package, "_gpu_here", lambda: None)
    flags = ["demo", "--work", str(workplace.folder), *(("--in-place",) if in_place else ())]
    monkeypatch.setattr(sys, "argv", ["published_package", *flags])
    published_package.main()
    assert asked == [["--in-place"] if in_place else []]
    assert [command for command, *_ in workplace.asked] == ([] if in_place else ["lora"])

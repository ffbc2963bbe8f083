"""The benchmarks of a server, on the demo model and the CPU: what they write is what happened."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server_process import ServingError
from benchmarks.serving import Server, ServerOptions, request_body

ROOT = Path(__file__).parents[2]
ENGINES = ROOT / "engines"


def run(module: str, folder: Path, *flags: str) -> dict[str, Any]:
    output = folder / "result.json"
    command = [sys.executable, "-m", f"benchmarks.{module}", "--backend", "onnxruntime-cpu"]
    command += ["--size", "64", "--data", str(folder / "data"), "--output", str(output), *flags]
    subprocess.run(command, cwd=ROOT, check=True, timeout=240)
    result: dict[str, Any] = json.loads(output.read_text())
    return result


def test_pictures_are_timed_with_previews_and_without(tmp_path: Path) -> None:
    result = run("served_picture", tmp_path, "--steps", "4", "--pictures", "2", "--loop", "5")
    assert result["engine_at_end"]["backend"] == "onnxruntime-cpu"
    assert 0 < result["api_seconds"] <= result["ready_seconds"]
    first, without, previewed = result["series"]
    assert [each["pictures"] for each in (first, without, previewed)] == [1, 2, 2]
    for series, previews in (first, 0), (without, 0), (previewed, 1):
        assert series["failed"] == []
        count, server = series["pictures"], series["server"]
        assert server["steps"] == 4 * count
        # Those that fall behind are dropped.
        assert server["previews"] <= 4 * count * previews
        assert sum(series["client"]["previews_seen"]) <= server["previews"]
        assert bool(series["client"]["first_preview_ms"]) <= bool(previews)
        lease, client = server["lease_to_end_ms"], series["client"]["picture_ms"]
        assert 0 < lease["median"] <= client["largest"]
    assert [each["preview_every"] for each in result["loops"]] == [0, 1]
    for loop in result["loops"]:
        assert (loop["pictures"], loop["steps"], loop["failed"]) == (5, 20, [])
        assert loop["pictures_a_second"] > 0
        assert loop["in_a_row"] > 0


def test_pictures_outlive_the_worker_that_is_killed(tmp_path: Path) -> None:
    flags = ("--large-size", "128", "--steps", "3", "--pictures", "40")
    result = run("served_many", tmp_path, *flags)
    assert result["there"] == result["pictures"] == 40
    assert result["missing"] == []
    assert result["large"] == 4
    assert [each["pictures"] for each in result["held"]] == [0, 10, 20, 30, 40]
    assert all(each["resident_gb"] > 0 for each in result["held"])
    before, after = result["held"][2]["worker"], result["held"][3]["worker"]
    assert (result["killed"]["worker"], result["killed"]["next"]) == (before, after)
    assert before != after
    assert result["metrics"]["calotype_worker_restarts_total"] == 1


def test_a_server_that_cannot_start_is_told_of(tmp_path: Path) -> None:
    options = ServerOptions(ENGINES, "nothing", tmp_path, "onnxruntime-cpu", patience=60)
    with (
        pytest.raises(ServingError, match=r"the server ended with code 1: .*nothing"),
        Server(options),
    ):
        pass


def test_every_picture_is_another() -> None:
    one, other = (request_body(64, 2, number) for number in (1, 2))
    assert one["seed"] != other["seed"]
    assert one["prompt"] != other["prompt"]

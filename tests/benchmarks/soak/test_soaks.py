"""Each soak, cut down: what it says of a server is what happened."""

from pathlib import Path

from benchmarks.soak.crowd import crowd
from benchmarks.soak.many_jobs import Held, growth_faults, many_jobs
from benchmarks.soak.outcome import Ground
from benchmarks.soak.server_kills import server_kills
from benchmarks.soak.worker_kills import worker_kills
from tests.places import ROOT


def ground(data: Path) -> Ground:
    return Ground(ROOT / "engines", "demo", data)


def test_nothing_is_lost_with_workers(tmp_path: Path) -> None:
    outcome = worker_kills(ground(tmp_path), 3)
    assert outcome.faults == ()
    assert outcome.figures["restarts"] == outcome.figures["kills"] == 3
    assert outcome.figures["by_status"] == {"completed": outcome.figures["jobs"]}


def test_nothing_is_lost_with_servers(tmp_path: Path) -> None:
    outcome = server_kills(ground(tmp_path), 3)
    assert outcome.faults == ()
    assert outcome.figures["completed"] == outcome.figures["jobs"] > 0


def test_a_crowd_is_served(tmp_path: Path) -> None:
    outcome = crowd(ground(tmp_path), streams=60, rate=40, seconds=2, rest=0)
    # So short a load says nothing about the memory, and a loaded machine answers later.
    passed_over = ("memory", "less than 40 submissions a second")
    assert [fault for fault in outcome.faults if not fault.startswith(passed_over)] == []
    assert set(outcome.figures["answers"]) == {"202"}
    assert 0 < outcome.figures["answers"]["202"] <= 80
    assert outcome.figures["events"] >= outcome.figures["pictures"]


def test_jobs_in_a_row_leave_nothing_open(tmp_path: Path) -> None:
    outcome = many_jobs(ground(tmp_path), 300, rest=0)
    assert outcome.figures["jobs"] == 300
    # The memory settles after some hundreds of pictures.
    assert [fault for fault in outcome.faults if not fault.startswith("memory")] == []


def test_what_grows_is_named() -> None:
    before = Held(memory_mb=100, descriptors=30, threads=9, processes=2)
    assert growth_faults(before, before) == []
    after = Held(memory_mb=106, descriptors=35, threads=18, processes=3)
    assert growth_faults(before, after) == [
        "memory grew from 100 to 106 MB",
        "descriptors grew from 30 to 35",
        "threads grew from 9 to 18",
        "processes grew from 2 to 3",
    ]

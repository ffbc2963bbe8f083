"""What a GPU check ends with, whatever becomes of its processes."""

import time
from pathlib import Path

import pytest

from scripts.gpu_check import Deadline, Outcome, Suite, check, grouped, table

TESTS = """
import os
import threading
import pytest

def test_runs(record_property):
    record_property("milliseconds", 3)

def test_fails():
    raise ValueError("too far off")

@pytest.mark.skip(reason="no GPU: no driver")
def test_is_not_there():
    pass

def test_takes_the_process_with_it():
    os.abort()

def test_goes_on_behind_it():
    pass

@pytest.fixture
def torn():
    yield
    raise RuntimeError("the device is lost")

def test_is_torn_down_badly(torn):
    pass
"""

NEVER_ENDS = """
import threading

def test_runs():
    pass

def test_never_ends():
    threading.Event().wait()

def test_waits_behind_it():
    pass
"""

NEVER = Deadline(None, 0.0)


def outcomes(folder: Path, tests: str, deadline: Deadline = NEVER) -> list[tuple[str, str, str]]:
    """Of tests in a folder of their own: each one's name, result and detail."""
    (folder / "test_it.py").write_text(tests)
    kept: list[list[Outcome]] = []
    found = check(Suite(folder, "."), deadline, lambda known: kept.append(list(known)))
    assert kept[-1] == found
    return [(each.name.partition("::")[2], each.result, each.detail) for each in found]


def test_a_process_that_dies_costs_the_test_that_it_died_in(tmp_path: Path) -> None:
    assert outcomes(tmp_path, TESTS) == [
        ("test_runs", "ran", "milliseconds: 3"),
        ("test_fails", "failed", "ValueError: too far off"),
        ("test_is_not_there", "not there", "no GPU: no driver"),
        ("test_takes_the_process_with_it", "failed", "the process ended by SIGABRT"),
        ("test_goes_on_behind_it", "ran", ""),
        ("test_is_torn_down_badly", "failed", "RuntimeError: the device is lost"),
    ]


def test_a_file_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no module of that name"):
        outcomes(tmp_path, "raise ImportError('no module of that name')")


def test_what_is_not_done_in_time_is_not_there(tmp_path: Path) -> None:
    found = outcomes(tmp_path, NEVER_ENDS, Deadline(10, time.monotonic()))
    assert found == [
        ("test_runs", "ran", ""),
        ("test_never_ends", "failed", "out of time"),
        ("test_waits_behind_it", "not there", "out of time"),
    ]


def test_a_file_has_a_process_for_each_backend_the_cheapest_first() -> None:
    names = [
        "tests/gpu/test_families.py::test_a[tensorrt-tiny]",
        "tests/gpu/test_backends.py::test_a[onnxruntime-cuda]",
        "tests/gpu/test_backends.py::test_a[tensorrt-rtx]",
        "tests/gpu/test_backends.py::test_a[tensorrt-body0]",
        "tests/gpu/test_backends.py::test_b[tensorrt]",
        "tests/gpu/test_cuda.py::test_a",
    ]
    assert grouped(names) == [[names[5]], [names[3], names[4]], [names[2]], [names[1]], [names[0]]]


def test_the_table_counts_and_names_them() -> None:
    found = [Outcome("a", "ran", "ms: 3"), Outcome("b", "failed", ""), Outcome("c", "ran", "")]
    assert table(found).splitlines() == [
        *("ran: 2", "  a  (ms: 3)", "  c", "failed: 1", "  b", "not there: 0")
    ]

"""What a GPU check ends with, whatever becomes of its processes."""

import os
import select
import time
from pathlib import Path

import pytest

from scripts.gpu_check import check, grouped, table
from scripts.gpu_processes import PROCESSES, Deadline, Outcome, Suite

TESTS = """
import os
import pytest

def test_runs(record_property):
    record_property("milliseconds", 3)

def test_fails(record_property):
    record_property("off", 7)
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

ENDS_LATE = """
import atexit, os, pytest

@pytest.fixture
def torn():
    yield
    os.abort()

def test_runs():
    pass

def test_is_torn_down_worse(torn):
    pass

def test_ends_in_order():
    atexit.register(os.abort)
"""

NEVER_ENDS = """
import subprocess, sys, threading
from pathlib import Path

def test_runs():
    pass

def test_never_ends():
    left = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    Path(__file__).with_name("left").write_text(str(left.pid))
    threading.Event().wait()

def test_waits_behind_it():
    pass
"""

INTERRUPTS = """
import os, signal, threading

def test_runs():
    pass

def test_meets_an_interruption():
    os.kill(os.getppid(), signal.SIGINT)
    threading.Event().wait()

def test_waits_behind_it():
    pass
"""


def outcomes(
    folder: Path, tests: str, deadline: Deadline | None = None, test_seconds: float = 100.0
) -> list[tuple[str, str, str]]:
    """Of tests in a folder of their own: each one's name, result and detail."""
    (folder / "test_it.py").write_text(tests)
    kept: list[list[Outcome]] = []
    suite = Suite(folder, ".", test_seconds)
    found = check(suite, deadline or Deadline(None, 0.0), lambda known: kept.append(list(known)))
    assert kept[-1] == found
    return [(each.name.partition("::")[2], each.result, each.detail) for each in found]


def ends(process: int) -> bool:
    """Whether it has ended, or does so now."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 60)[0])
    finally:
        os.close(handle)


def test_a_process_that_dies_costs_the_test_that_it_died_in(tmp_path: Path) -> None:
    assert outcomes(tmp_path, TESTS) == [
        ("test_runs", "ran", "milliseconds: 3"),
        ("test_fails", "failed", "ValueError: too far off; off: 7"),
        ("test_is_not_there", "not there", "no GPU: no driver"),
        ("test_takes_the_process_with_it", "failed", "the process ended by SIGABRT"),
        ("test_goes_on_behind_it", "ran", ""),
        ("test_is_torn_down_badly", "failed", "RuntimeError: the device is lost"),
    ]


def test_a_process_that_dies_between_or_behind_its_tests_costs_none_that_ran(
    tmp_path: Path,
) -> None:
    assert outcomes(tmp_path, ENDS_LATE) == [
        ("test_runs", "ran", ""),
        ("test_is_torn_down_worse", "failed", "the process ended by SIGABRT"),
        ("test_ends_in_order", "ran", ""),
        ("test_ends_in_order, behind it", "failed", "the process ended by SIGABRT"),
    ]


def test_processes_that_die_one_after_another_are_given_up(tmp_path: Path) -> None:
    tests = (
        "import os, pytest\n@pytest.mark.parametrize('n', range(5))\ndef test_it(n): os.abort()\n"
    )
    died, ended = "the process ended by SIGABRT", f"{PROCESSES} processes ended before it"
    assert outcomes(tmp_path, tests) == [
        *((f"test_it[{n}]", "failed", died) for n in range(PROCESSES)),
        *((f"test_it[{n}]", "not there", ended) for n in range(PROCESSES, 5)),
    ]


def test_a_test_that_never_ends_costs_no_other_and_leaves_nothing(tmp_path: Path) -> None:
    assert outcomes(tmp_path, NEVER_ENDS, test_seconds=2.0) == [
        ("test_runs", "ran", ""),
        (
            "test_never_ends",
            "failed",
            "the process ended with code 1, as after 2 seconds in a test",
        ),
        ("test_waits_behind_it", "ran", ""),
    ]
    assert ends(int((tmp_path / "left").read_text()))


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
    assert ends(int((tmp_path / "left").read_text()))


def test_an_interruption_loses_nothing_that_ran(tmp_path: Path) -> None:
    assert outcomes(tmp_path, INTERRUPTS) == [
        ("test_runs", "ran", ""),
        ("test_meets_an_interruption", "failed", "interrupted"),
        ("test_waits_behind_it", "not there", "interrupted"),
    ]


def test_nothing_begins_when_the_time_is_up(tmp_path: Path) -> None:
    assert outcomes(tmp_path, NEVER_ENDS, Deadline(0, time.monotonic())) == [
        (f"test_{name}", "not there", "out of time")
        for name in ("runs", "never_ends", "waits_behind_it")
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
    assert grouped(names, ["tensorrt"]) == [[names[3], names[4]], [names[0]]]
    assert grouped(names, ["tensorrt-rtx", "test_cuda"]) == [[names[5]], [names[2]]]


def test_the_table_counts_and_names_them() -> None:
    found = [Outcome("a", "ran", "ms: 3"), Outcome("b", "failed", ""), Outcome("c", "ran", "")]
    assert table(found).splitlines() == [
        *("ran: 2", "  a  (ms: 3)", "  c", "failed: 1", "  b", "not there: 0")
    ]

"""Plugin of pytest that writes the result of each test at once, with its time.

A vendor's library may end the process, so nothing can be left to be written at the end.

    GPU_CHECK_REPORT=FILE GPU_CHECK_BEGAN=SECONDS python -m pytest -p scripts.gpu_report ...

The report has one JSON object a line. A test has a line when it begins, one for each result, and
one when it is over; a stage has a line when it ends. A test that took the device from its process
has one more.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

VARIABLE = "GPU_CHECK_REPORT"
BEGAN = "GPU_CHECK_BEGAN"
"""Variable with the start of the process by `time.monotonic()`, a clock that processes share."""

BEGUN, OVER, STAGE, LOST = "begun", "over", "stage", "lost"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report."""

    name: str
    """Name of a test or of a stage."""
    result: str
    """`ran`, `failed`, `not there`, or one of `BEGUN`, `OVER`, `STAGE` and `LOST`."""
    detail: str = ""
    at: float = 0.0
    """Time of writing, by the same clock."""
    seconds: float = 0.0
    """Duration of a stage; a test lasts from its `BEGUN` to its `OVER`."""


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time the block as a stage; equal names are added up. Writes nothing without a report."""
    began = time.monotonic()
    try:
        yield
    finally:
        if VARIABLE in os.environ:
            _write(name, STAGE, seconds=time.monotonic() - began)


def end_without_device(session: pytest.Session, nodeid: str, why: str) -> None:
    """End the session behind a test that took the device from this process: no other test can run
    here, and each can in another process."""
    if VARIABLE in os.environ:
        _write(nodeid, LOST, why)
    session.shouldfail = f"{nodeid} took the device from this process: {why}"


def pytest_collection_finish() -> None:
    """Write the stage of starting and importing: the first test can begin."""
    if BEGAN in os.environ:
        _write("start and import", STAGE, seconds=time.monotonic() - float(os.environ[BEGAN]))


def pytest_runtest_logstart(nodeid: str) -> None:
    """Write that a test begins."""
    _write(nodeid, BEGUN)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the result of a test; a failed teardown is written after the test's own result."""
    said = [f"{name}: {value}" for name, value in report.user_properties]
    if report.failed:
        _write(report.nodeid, "failed", "; ".join([_reason(report), *said]))
    elif report.skipped:
        _write(report.nodeid, "not there", _reason(report))
    elif report.when == "call":
        _write(report.nodeid, "ran", "; ".join(said))


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Write that a test is over, its teardown included."""
    _write(nodeid, OVER)


def _reason(report: pytest.TestReport) -> str:
    why = report.longrepr
    if isinstance(why, tuple):
        words = str(why[2]).removeprefix("Skipped: ")
    else:
        crash = getattr(why, "reprcrash", None)
        words = str(crash.message if crash else why)
    return " ".join(words.split())


def _write(name: str, result: str, detail: str = "", seconds: float = 0.0) -> None:
    line = Line(name, result, detail, time.monotonic(), seconds)
    with Path(os.environ[VARIABLE]).open("a") as file:
        file.write(json.dumps(asdict(line)) + "\n")

"""A plugin of pytest's: writes what becomes of each test as it happens, and how long it took.

A vendor's library may end the process, and at its end nothing is written then.

    GPU_CHECK_REPORT=FILE GPU_CHECK_BEGAN=SECONDS python -m pytest -p scripts.gpu_report ...

Lines of JSON, each with a name: of a test when it begins, for each thing that became of it, and
when it is over; of a stage when it is done.
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
"""When the process was started, by the clock that all processes of a machine share."""

BEGUN, OVER, STAGE = "begun", "over", "stage"


@dataclass(frozen=True, slots=True)
class Line:
    """What is written at once."""

    name: str
    """Of a test, or of a stage."""
    result: str
    """ran, failed, not there; or one of the words above."""
    detail: str = ""
    at: float = 0.0
    """When, by that clock."""
    seconds: float = 0.0
    """What a stage took; tests lie between `begun` and `over`."""


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a part of the work; one that comes again is added up. Nothing without the plugin."""
    began = time.monotonic()
    try:
        yield
    finally:
        if VARIABLE in os.environ:
            _write(name, STAGE, seconds=time.monotonic() - began)


def pytest_collection_finish() -> None:
    """The first test can begin: all is imported."""
    if BEGAN in os.environ:
        _write("start and import", STAGE, seconds=time.monotonic() - float(os.environ[BEGAN]))


def pytest_runtest_logstart(nodeid: str) -> None:
    """It begins."""
    _write(nodeid, BEGUN)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """It ran, failed, or was skipped; a teardown that fails comes after what was told."""
    said = [f"{name}: {value}" for name, value in report.user_properties]
    if report.failed:
        _write(report.nodeid, "failed", "; ".join([_reason(report), *said]))
    elif report.skipped:
        _write(report.nodeid, "not there", _reason(report))
    elif report.when == "call":
        _write(report.nodeid, "ran", "; ".join(said))


def pytest_runtest_logfinish(nodeid: str) -> None:
    """It is over, its teardown too."""
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

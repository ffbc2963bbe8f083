"""A plugin of pytest's: writes what becomes of each test as it happens.

A vendor's library may end the process, and at its end nothing is written then.

    GPU_CHECK_REPORT=FILE python -m pytest -p scripts.gpu_report ...

Lines of JSON, each with a test's name: when it begins, for each thing that became of it, and when
it is over.
"""

import json
import os
from pathlib import Path

import pytest

VARIABLE = "GPU_CHECK_REPORT"
BEGUN, OVER = "begun", "over"


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


def _write(name: str, result: str, detail: str = "") -> None:
    with Path(os.environ[VARIABLE]).open("a") as file:
        file.write(json.dumps({"name": name, "result": result, "detail": detail}) + "\n")

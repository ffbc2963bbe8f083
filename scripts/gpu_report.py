"""A plugin of pytest's: writes what becomes of each test as it happens.

A vendor's library may end the process, and at its end nothing is written then.

    GPU_CHECK_REPORT=FILE python -m pytest -p scripts.gpu_report ...

A line of JSON when a test begins, with its name alone, and one for each thing that became of it.
"""

import json
import os
from pathlib import Path

import pytest

VARIABLE = "GPU_CHECK_REPORT"


def pytest_runtest_logstart(nodeid: str) -> None:
    """It begins."""
    _write({"name": nodeid})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """It ran, failed, or was skipped; a teardown that fails comes after what was told."""
    if report.failed:
        _write({"name": report.nodeid, "result": "failed", "detail": _reason(report)})
    elif report.skipped:
        _write({"name": report.nodeid, "result": "not there", "detail": _reason(report)})
    elif report.when == "call":
        said = "; ".join(f"{name}: {value}" for name, value in report.user_properties)
        _write({"name": report.nodeid, "result": "ran", "detail": said})


def _reason(report: pytest.TestReport) -> str:
    why = report.longrepr
    if isinstance(why, tuple):
        words = str(why[2]).removeprefix("Skipped: ")
    else:
        crash = getattr(why, "reprcrash", None)
        words = str(crash.message if crash else why)
    return " ".join(words.split())


def _write(content: dict[str, str]) -> None:
    with Path(os.environ[VARIABLE]).open("a") as file:
        file.write(json.dumps(content) + "\n")

"""The table that a GPU check ends with, from a report of real runs."""

import subprocess
import sys
from pathlib import Path

from scripts.gpu_check import Outcome, outcomes, table

TESTS = """
import pytest

def test_runs(record_property):
    record_property("milliseconds", 3)

def test_fails():
    raise ValueError("too far off")

@pytest.mark.skip(reason="no GPU: no driver")
def test_is_not_there():
    pass
"""


def test_every_test_is_in_it_with_what_became_of_it(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", str(tmp_path), f"--junitxml={report}"]
    subprocess.run([*command, f"--rootdir={tmp_path}"], check=False, capture_output=True)
    found = outcomes(report)
    assert found == [
        Outcome("test_it: test_runs", "ran", "milliseconds: 3"),
        Outcome("test_it: test_fails", "failed", "ValueError: too far off"),
        Outcome("test_it: test_is_not_there", "not there", "no GPU: no driver"),
    ]
    lines = table(found).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "ran: 1",
        "failed: 1",
        "not there: 1",
    ]
    assert "  test_it: test_is_not_there  (no GPU: no driver)" in lines

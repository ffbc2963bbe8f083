import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

BEGIN = """
import importlib, sys
try:
    importlib.import_module(sys.argv[1]).main(["--help"])
except SystemExit:
    pass
import onnxruntime
"""
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
ENTRIES = ("api.cli", "engine_build.cli", "runtime.worker.main")


def left_by(home: Path, *command: str) -> list[str]:
    """Files in the home of a user who runs this command, with nothing said about telemetry.

    The environment is bare: the library also keeps silent where `CI` or another name of a
    build machine is set, and there it would prove nothing.
    """
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment = {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, check=True, capture_output=True
    )
    return [path.name for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_command_lets_a_library_report(entry: str, tmp_path: Path) -> None:
    assert left_by(tmp_path, "-c", BEGIN, entry) == []


def test_the_library_would_report_if_it_were_not_told(tmp_path: Path) -> None:
    assert "deviceid" in left_by(tmp_path, "-c", "import onnxruntime")

"""Benchmarks run as their users run them: as a module, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.server_process import child_environment
from tests.places import ROOT


def run(module: str, output: Path, *flags: str) -> dict[str, Any]:
    """The result that the benchmark wrote."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *flags, "--output", str(output)]
    subprocess.run(
        command, cwd=ROOT, check=True, timeout=240, capture_output=True, env=child_environment()
    )
    result: dict[str, Any] = json.loads(output.read_text())
    return result

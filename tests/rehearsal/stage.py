"""Runs rehearsals in processes of their own, for tests: what was seen, and the log."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT

LIBRARY = os.environ.get("REHEARSAL_ONNXRUNTIME", "")
"""A folder with onnxruntime-gpu."""

needs_library = pytest.mark.skipif(not LIBRARY, reason="`make rehearse` gives it onnxruntime-gpu")


@dataclass(frozen=True)
class Stage:
    """The stage of a rehearsal: a folder of stand-in libraries."""

    stand_ins: Path
    folder: Path
    """Of the compiled graphs, and of the logs."""
    latents: int
    """The height and width of the latents."""

    def rehearsed(self, role: str, weights: Path, how: str) -> tuple[dict[str, Any], str]:
        """The findings and the log."""
        log = self.folder / f"{role}-{how}.log"
        command = [
            sys.executable, "-m", "tests.rehearsal.rehearse", str(self.stand_ins), LIBRARY,
            str(self.folder / f"{role}.onnx"), str(weights), str(self.latents), how,
        ]  # fmt: skip
        environment = {**os.environ, "REHEARSAL_LOG": str(log)}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]), log.read_text()


def behind(log: str, mark: str) -> list[str]:
    """The log's lines between a mark and the next one."""
    return log.split(f"# {mark}\n", 1)[1].split("# ", 1)[0].splitlines()

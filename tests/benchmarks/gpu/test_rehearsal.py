"""A whole run on the demo model and the CPU."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.figures import FIGURES
from tests.places import ENGINES, ROOT

ON_A_GPU = {"kernels of a step, ms", "launches of a step", "device memory of engines, GB"}


def run(folder: Path, family: str, engines: Path, model: str) -> tuple[dict[str, Any], str]:
    """Result and output of a rehearsal on a package that is there."""
    output = folder / "result.json"
    before = folder / "before.json"
    before.write_text('{"figures": {"picture, s": 2.0}}')
    command = [sys.executable, "-m", "benchmarks.gpu", family, "--rehearsal"]
    command += ["--engines", str(engines), "--model", model, "--work", str(folder / "work")]
    command += ["--before", str(before), "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=400, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
    return json.loads(output.read_text()), done.stdout.decode()


def test_a_run_has_every_part(tmp_path: Path) -> None:
    result, shown = run(tmp_path, "sdxl", ENGINES, "demo")
    assert {name: part["outcome"] for name, part in result["parts"].items()} == {
        "package": "not there",
        "served": "ran",
        "pictures": "ran",
        "loras": "ran",
        "plain": "ran",
        "diffusers": "not there",
    }
    of_diffusers = {name for name in FIGURES if name.startswith("diffusers")}
    assert result["figures"].keys() == FIGURES.keys() - ON_A_GPU - of_diffusers
    assert {row["is"] for row in result["aims"]} <= {"met", "missed"}
    assert result["rehearsal"]
    assert result["machine"]["versions"]["onnxruntime"]
    series = result["parts"]["pictures"]["result"]
    assert len(series["pictures"]) == len(series["with_previews"]) == 10
    assert series["last_latents"]["finite"]
    assert "| picture, s | 2 |" in shown


@pytest.mark.parametrize("family", ["chroma", "zimage"])
def test_a_transformer_runs_without_loras_and_a_loop(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = f"tiny_{family}"
    result, _ = run(tmp_path, family, request.getfixturevalue(f"{name}_package"), name)
    ran = {name for name, part in result["parts"].items() if part["outcome"] == "ran"}
    assert ran == {"served", "pictures", "plain"}
    assert {row["is"] for row in result["aims"]} <= {"met", "missed"}
    assert result["figures"]["in process: text, ms"] > 0
    assert result["parts"]["served"]["result"]["loops"] == []

"""A whole run on the demo model and the CPU."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.figures import FIGURES
from tests.places import ENGINES, ROOT

ON_A_GPU = {"kernels of a step, ms", "launches of a step", "device memory of engines, GB"}


def test_a_run_has_every_part(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    before = tmp_path / "before.json"
    before.write_text('{"figures": {"picture, s": 2.0}}')
    command = [sys.executable, "-m", "benchmarks.gpu", "sdxl", "--rehearsal"]
    command += ["--engines", str(ENGINES), "--model", "demo", "--work", str(tmp_path / "work")]
    command += ["--before", str(before), "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=400, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
    result = json.loads(output.read_text())
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
    assert "| picture, s | 2 |" in done.stdout.decode()

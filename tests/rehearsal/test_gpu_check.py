"""The whole check of a GPU where the CPU stands in for one: `make rehearse` has it.

No fault of a test, a fixture or the check itself is left for the minutes on a GPU.
"""

import json
import subprocess
import sys
from pathlib import Path

from tests.fakes.imagined import imagined_machine
from tests.gpu.conftest import SIZES
from tests.places import ROOT
from tests.rehearsal.stage import needs_library

pytestmark = needs_library

BACKEND = "onnxruntime-cuda"


def test_every_test_of_a_backend_runs_where_the_cpu_stands_in(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.gpu_check", "--only", BACKEND, "--only", "test_cuda"]
    done = subprocess.run(
        [*command, "--write", str(tmp_path / "found.json")],
        cwd=ROOT,
        env=imagined_machine(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    ran = [each["name"] for each in found["tests"] if each["result"] == "ran"]
    compiled = [each["name"] for each in found["stages"] if "compile and verify" in each["name"]]
    assert {each.rpartition(" ")[2] for each in compiled} == {*SIZES}
    assert sum(BACKEND in each for each in ran) >= len(SIZES) + 8
    # One asks for what another backend may do.
    absent = [each["name"] for each in found["tests"] if each["result"] == "not there"]
    assert [each.partition("[")[0].rpartition("::")[2] for each in absent] == [
        "test_whether_a_graph_sees_weights_that_were_replaced_after_it"
    ]

"""The demo's roles by the real onnxruntime-gpu on the stand-ins: `make rehearse` has it.

Its host code is genuine, and no numbers are computed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine_build.onnxruntime_cuda.compiler import compile_role
from runtime.model import open_model
from tests.rehearsal.build import build

ROOT = Path(__file__).parents[2]
LIBRARY = os.environ.get("REHEARSAL_ONNXRUNTIME", "")
ROLES = ("text_encoder", "text_encoder_2", "denoiser", "vae_decoder", "preview_decoder")
STALE = "CUDA error cudaErrorStreamCaptureUnsupported"

pytestmark = pytest.mark.skipif(not LIBRARY, reason="`make rehearse` gives it onnxruntime-gpu")


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("stand_ins"))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    package = open_model(ROOT / "engines", "demo").package
    for role in ROLES:
        compile_role(package, role, "fp16", folder)
    return folder


def rehearsed(stand_ins: Path, graphs: Path, role: str, how: str) -> tuple[dict[str, Any], str]:
    """What was seen, and the log."""
    log = graphs / f"{role}-{how}.log"
    command = [
        sys.executable, "-m", "tests.rehearsal.rehearse", str(stand_ins), LIBRARY,
        str(ROOT / "engines"), "demo", role, str(graphs / f"{role}.onnx"), how,
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


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_captured_with_no_forbidden_call(
    stand_ins: Path, graphs: Path, role: str
) -> None:
    seen, log = rehearsed(stand_ins, graphs, role, "bare")
    assert seen == {
        "plain": "ran",
        "captured": "ran",
        "end": "cudaSuccess",
        "behind": ["ran", "ran"],
    }
    captured = behind(log, "capture")
    assert any(line.startswith("C kernel") for line in captured)
    refused = ("forbidden", "error", "cudaMalloc", "host_function", "event_record")
    assert not [line for line in captured if line[2:].startswith(refused)]
    assert not [line for line in captured if " pageable " in line]


def test_runs_behind_the_first_take_no_memory(stand_ins: Path, graphs: Path) -> None:
    _, log = rehearsed(stand_ins, graphs, "denoiser", "bare")
    lines = behind(log, "behind")
    assert any(line.startswith("- kernel") for line in lines)
    assert not [line for line in lines if "Malloc" in line]


def test_the_plain_run_behind_a_spoilt_capture_fails_as_on_the_gpu(
    stand_ins: Path, graphs: Path
) -> None:
    seen, _ = rehearsed(stand_ins, graphs, "denoiser", "memory")
    assert seen["end"] == "cudaErrorStreamCaptureInvalidated"
    assert "Slice node" in seen["behind"][0]
    assert STALE in seen["behind"][0]
    assert seen["behind"][1] == "ran"


def test_reading_the_last_error_of_its_copy_mends_it(stand_ins: Path, graphs: Path) -> None:
    seen, log = rehearsed(stand_ins, graphs, "denoiser", "memory-read")
    assert seen["behind"] == ["ran", "ran"]
    assert "C error cudaDeviceSynchronize 900" in log


@pytest.mark.parametrize("role", ROLES)
def test_a_call_serves_as_a_graph(stand_ins: Path, graphs: Path, role: str) -> None:
    seen, log = rehearsed(stand_ins, graphs, role, "served")
    assert seen == {"runs": ["ran"] * 3, "shortfalls": []}
    lines = behind(log, "behind")
    assert len([line for line in lines if "launch" in line]) == 2
    assert not [line for line in lines if "kernel" in line]


def test_a_capture_that_is_spoilt_costs_nothing_but_the_graph(
    stand_ins: Path, graphs: Path
) -> None:
    seen, log = rehearsed(stand_ins, graphs, "denoiser", "waited-for")
    assert seen["runs"] == ["ran"] * 3
    (told,) = seen["shortfalls"]
    assert told.startswith("denoiser at these shapes runs without a CUDA graph: ")
    assert any(line.startswith("- kernel") for line in behind(log, "behind"))

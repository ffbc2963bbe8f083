"""The demo's roles by the real onnxruntime-gpu on the stand-ins: `make rehearse` has it.

Its host code is genuine, and no numbers are computed.
"""

from typing import Any

import pytest

from engine_build.target.onnxruntime_cuda.compiler import compile_role
from runtime.plan.model import open_model
from tests.rehearsal.build import build
from tests.rehearsal.stage import ROOT, Stage, behind, needs_library

ROLES = ("text_encoder", "text_encoder_2", "denoiser", "vae_decoder", "preview_decoder")
STALE = "CUDA error cudaErrorStreamCaptureUnsupported"

pytestmark = needs_library


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    graphs = tmp_path_factory.mktemp("graphs")
    package = open_model(ROOT / "engines", "demo").package
    for role in ROLES:
        compile_role(package, role, "fp16", graphs)
    return Stage(build(tmp_path_factory.mktemp("stand_ins")), graphs, latents=8)


def rehearsed(stage: Stage, role: str, how: str) -> tuple[dict[str, Any], str]:
    return stage.rehearsed(role, ROOT / "engines/demo", how)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_captured_with_no_forbidden_call(stage: Stage, role: str) -> None:
    seen, log = rehearsed(stage, role, "bare")
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


def test_runs_behind_the_first_take_no_memory(stage: Stage) -> None:
    _, log = rehearsed(stage, "denoiser", "bare")
    lines = behind(log, "behind")
    assert any(line.startswith("- kernel") for line in lines)
    assert not [line for line in lines if "Malloc" in line]


def test_the_plain_run_behind_a_spoilt_capture_fails_as_on_the_gpu(stage: Stage) -> None:
    seen, _ = rehearsed(stage, "denoiser", "memory")
    assert seen["end"] == "cudaErrorStreamCaptureInvalidated"
    assert "Slice node" in seen["behind"][0]
    assert STALE in seen["behind"][0]
    assert seen["behind"][1] == "ran"


def test_reading_the_last_error_of_its_copy_mends_it(stage: Stage) -> None:
    seen, log = rehearsed(stage, "denoiser", "memory-read")
    assert seen["behind"] == ["ran", "ran"]
    assert "C error cudaDeviceSynchronize 900" in log


@pytest.mark.parametrize("role", ROLES)
def test_a_call_serves_as_a_graph(stage: Stage, role: str) -> None:
    seen, log = rehearsed(stage, role, "served")
    assert seen == {"runs": ["ran"] * 3, "shortfalls": []}
    lines = behind(log, "behind")
    assert len([line for line in lines if "launch" in line]) == 2
    assert not [line for line in lines if "kernel" in line]


def test_a_capture_that_is_spoilt_costs_nothing_but_the_graph(stage: Stage) -> None:
    seen, log = rehearsed(stage, "denoiser", "waited-for")
    assert seen["runs"] == ["ran"] * 3
    (told,) = seen["shortfalls"]
    assert told.startswith("denoiser at these shapes runs without a CUDA graph: ")
    assert any(line.startswith("- kernel") for line in behind(log, "behind"))

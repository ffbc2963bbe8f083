"""Messages about a graph to the person who compiles it."""

import shutil
from pathlib import Path

import pytest

from engine_build.cli import run
from engine_build.target.onnxruntime_cuda import capturable
from runtime.package.target import FOLDER, read_target
from tests.tiny.lora_packs import ENGINES


def test_nodes_that_no_cuda_graph_can_hold_are_recorded_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo has none, but for a kernel that would take nothing to be joined."""
    monkeypatch.setattr(capturable, "LARGEST_CONCAT", 1)
    package = tmp_path / "demo"
    shutil.copytree(ENGINES / "demo", package, ignore=shutil.ignore_patterns(FOLDER))
    asked = ["compile", "demo", "--backend", "onnxruntime-cuda", "--gpu", "sm_89", "--quiet"]
    assert run([*asked, "--sizes", "64x64", "--engines", str(tmp_path)]) == 0
    (folder,) = (package / FOLDER).glob("onnx*")
    engines = read_target(folder).record.engines
    told = capsys.readouterr().out.splitlines()
    for role, engine in engines.items():
        lines = [line for line in told if line.startswith(f"{role}: runs without a CUDA graph")]
        assert len(lines) == bool(engine.uncaptured), told
    first, *_ = engines["denoiser"].uncaptured
    assert "inputs, at most 1 can be captured" in first
    assert any(first in line for line in told)

"""The parts that the benchmark of opening measures in processes of their own, on the demo."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.package.manifest import load_package
from tests.places import ENGINES, ROOT


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "engines").symlink_to(ENGINES)
    return tmp_path


def measured(work: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.opening", "demo", "--work", str(work), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_package_of_known_hashes_is_opened_without_reading_its_weights(work: Path) -> None:
    weights = load_package(ENGINES, "demo").file("denoiser.safetensors").stat().st_size
    found = measured(work, "--part", "open")
    assert (found["files_hashed"], found["most_often"]) == (0, 0)
    assert 0 < found["bytes_read"] < weights


@pytest.mark.parametrize("how", ["mapped", "served"])
def test_a_session_is_opened_and_its_memory_told(work: Path, how: str) -> None:
    found = measured(work, "--part", how, "--role", "vae_decoder")
    assert found["inputs"] == 1
    assert found["held_gb"] > 0


def test_a_session_of_more_memory_than_allowed_fails(work: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        measured(work, "--part", "served", "--role", "denoiser", "--memory-gb", "0.01")

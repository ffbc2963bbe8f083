"""The longest tests of the demo model on every backend: many jobs, and changes of LoRAs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from runtime.backends.protocol import OnDevice
from tests.gpu.conftest import Compiled
from tests.gpu.drawing import drawn

JOBS = 200


def test_memory_does_not_grow_over_many_jobs(demo: Compiled) -> None:
    generator = demo.generator()
    assert isinstance(generator.backend, OnDevice)
    for seed in range(20):
        drawn(generator, seed=seed, steps=2)
    free = generator.backend.device_memory()["free"]
    for seed in range(JOBS):
        drawn(generator, seed=seed, steps=2)
    # CUDA takes 2 MiB at a time; a job that kept any would have kept 400.
    assert generator.backend.device_memory()["free"] >= free - 8 * 2**20


def test_what_a_change_of_loras_takes(
    demo: Compiled, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Not asserted but measured: the time of a change, and the bytes that it moves."""
    output = tmp_path / "lora.json"
    command = [sys.executable, "-m", "benchmarks.lora", "--engines", str(demo.engines)]
    command += ["--backend", demo.choice.backend, "--output", str(output)]
    subprocess.run(command, check=True)
    for change in json.loads(output.read_text())["changes"]:
        record_property(change["title"], f"{change['milliseconds']} ms, {change['moved_mb']} MB")

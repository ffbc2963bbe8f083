"""Sixteen large pictures at once, in a process that has memory for few of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT
from tests.tiny.wide_demo import demo_of_all_sizes

DRAW = """
import json, logging, resource, sys
from pathlib import Path
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.draw.generate import Generator
from runtime.machine import resident_bytes
from runtime.plan.model import open_model
from runtime.wire.options import DrawOptions

engines, limited, told = Path(sys.argv[1]), int(sys.argv[2]) << 20, int(sys.argv[3]) << 20
logging.basicConfig(level=logging.WARNING)
model = open_model(engines, "demo")
backend = OnnxRuntimeCpu(model.package, 1)
generator = Generator(model, backend, DrawOptions(memory_bytes=told or None))
generator.warm_up()

def plan(seed):
    body = {"prompt": "a red heart", "seed": seed, "steps": 1}
    return model.plan_of({**body, "width": 448, "height": 448})

waiting = [generator.start(plan(seed)) for seed in range(16)]
started = resident_bytes()
if limited:
    data = next(l for l in open("/proc/self/status") if l.startswith("VmData"))
    most = int(data.split()[1]) * 1024 + limited
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))

def arrivals(free):
    taken, waiting[:free] = waiting[:free], []
    return taken

drawn, widths = [], []
for events in generator.turns(arrivals):
    widths.append(len(events))
    drawn += [float(generator.latents(event.sample).std()) for event in events]
peak = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
grown = (int(peak.split()[1]) * 1024 - started) >> 20
print(json.dumps({"drawn": drawn, "widths": widths, "grown": grown}))
"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_of_all_sizes(tmp_path_factory.mktemp("engines"))


def draw(engines: Path, *, limited: int, told: int) -> tuple[dict[str, Any], str]:
    """The pictures and the log, with so many megabytes for data and for calls; 0: no limit."""
    done = subprocess.run(
        [sys.executable, "-c", DRAW, str(engines), str(limited), str(told)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result, done.stderr


def test_they_are_drawn_one_after_another_within_the_bound(engines: Path) -> None:
    """One of them takes some 80 MB; sixteen together took 1,240."""
    result, log = draw(engines, limited=300, told=90)
    assert len(result["drawn"]) == 16
    assert all(result["drawn"])
    assert set(result["widths"]) == {1}
    assert result["grown"] < 90 * 1.3
    assert "calls take less than" not in log


def test_calls_that_find_no_memory_are_made_smaller(engines: Path) -> None:
    result, log = draw(engines, limited=300, told=0)
    assert len(result["drawn"]) == 16
    assert "denoiser: calls take less than" in log
    assert "allocate memory" in log or "bad_alloc" in log

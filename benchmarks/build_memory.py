"""Measures memory and seconds of a build of a model of published size, step by step.

    python -m benchmarks.build_memory sdxl

writes a checkpoint of that size with distinct random weights, builds a package of it by the command
`engine-build build`, and samples the memory that the building process holds beside the page cache
(anonymous memory). The checkpoint takes as much disk as the real one, and the package as much again
unless --in-place is given.
"""

import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.frame import RESULTS, Figure, benchmark_parser, keep
from benchmarks.memory import held_gb
from benchmarks.real_size import MODELS, write_model

_STEP = re.compile(r"\[\d+/\d+\] (?P<title>.+)")
_PAUSE = 0.05


@dataclass(slots=True)
class Step:
    """One step of the build, under the title that the build prints."""

    title: str
    seconds: float = 0.0
    peak_gb: float = 0.0


class Watch:
    """Sampler of a process's anonymous memory, which credits each sample to the current step."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.steps = [Step("start")]
        self._lock = threading.Lock()

    def run(self) -> None:
        """Sample until the process ends."""
        before = time.monotonic()
        while self._process.poll() is None:
            held, now = held_gb(self._process.pid), time.monotonic()
            with self._lock:
                self.steps[-1].peak_gb = max(self.steps[-1].peak_gb, held)
                self.steps[-1].seconds += now - before
            before = now
            time.sleep(_PAUSE)

    def begin(self, title: str) -> None:
        """Record that the process begins its next step."""
        with self._lock:
            self.steps.append(Step(title))


def measure(source: Path, engines: Path, name: str, arguments: list[str]) -> list[Step]:
    """Build `source` in a process of its own; the steps. Raises SystemExit when the build fails."""
    command = [sys.executable, "-m", "engine_build", "build", str(source), "--name", name]
    command += ["--engines", str(engines), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    watch = Watch(process)
    sampler = threading.Thread(target=watch.run)
    sampler.start()
    assert process.stderr is not None
    for line in process.stderr:
        print(line, end="", file=sys.stderr)
        if found := _STEP.match(line):
            watch.begin(found["title"])
    sampler.join()
    if process.wait() != 0:
        raise SystemExit(f"the build failed with code {process.returncode}")
    return watch.steps


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--source", type=Path, help="a folder written before; default: write one")
    parser.add_argument("--engines", type=Path, help="keep the package in this folder")
    parser.add_argument("--in-place", action="store_true", help="leave the weights where they are")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="calotype-build-memory-") as scratch:
        source = arguments.source or write_model(arguments.model, Path(scratch) / arguments.model)
        size = sum(path.stat().st_size for path in source.rglob("*.safetensors"))
        flags = ["--in-place"] if arguments.in_place else []
        steps = measure(source, arguments.engines or Path(scratch) / "engines", "measured", flags)
    result: dict[str, Any] = {
        "model": arguments.model,
        "weights_gb": round(size / 1e9, 2),
        "in_place": arguments.in_place,
        "peak_gb": round(max(step.peak_gb for step in steps), 2),
        "seconds": round(sum(step.seconds for step in steps), 1),
        "steps": [
            {**asdict(step), "seconds": round(step.seconds, 1), "peak_gb": round(step.peak_gb, 2)}
            for step in steps
        ],
    }
    for step in steps:
        print(f"{step.title:<40} {step.seconds:8.1f} s {step.peak_gb:6.2f} GB")
    print(f"{result['weights_gb']} GB of weights: at most {result['peak_gb']} GB of memory")
    output = arguments.output or RESULTS / f"build_memory_{arguments.model}.json"
    figures = {
        "memory at most": Figure("GB", (result["peak_gb"],)),
        "build": Figure("s", (result["seconds"],)),
        **{f"{step.title}: memory": Figure("GB", (step.peak_gb,)) for step in steps},
        **{f"{step.title}: time": Figure("s", (step.seconds,)) for step in steps},
    }
    keep(result, output, figures)


if __name__ == "__main__":
    main()

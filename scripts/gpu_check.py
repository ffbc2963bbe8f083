"""Runs every test that needs a GPU, and ends with what ran, what failed, and what was not there.

    python -m scripts.gpu_check [--write FILE] [--seconds N]

No network is used. Each file has a process of its own for each backend; one that a vendor's library
ends costs the test that it ended in, and the others go on in another process. With --write the
outcome is kept as JSON with the GPU, its driver and the versions, so far as it is known at any
time: benchmarks/results/ is where such files are committed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.catalog import installed_version
from runtime.devices import find_devices
from runtime.errors import BackendError
from runtime.target import BACKENDS
from scripts.gpu_report import VARIABLE

ROOT = Path(__file__).parent.parent
NOTHING_RAN = 1
FAILED = 1

# What costs least and says most comes first: time may be short.
FILES = ("test_cuda.py", "test_backends.py", "test_families.py")


@dataclass(frozen=True)
class Outcome:
    """One test."""

    name: str
    result: str
    """ran, failed, or not there."""
    detail: str


@dataclass(frozen=True)
class Deadline:
    """When no more is begun and what runs is ended; `seconds` of None is never."""

    seconds: float | None
    began: float

    @property
    def left(self) -> float | None:
        """Seconds from now."""
        if self.seconds is None:
            return None
        return max(0.0, self.began + self.seconds - time.monotonic())


@dataclass(frozen=True)
class Suite:
    """A folder of tests, and the one that pytest's settings are for."""

    root: Path
    folder: str

    def command(self, *arguments: str) -> list[str]:
        """Pytest with these arguments; it is to run in `root`."""
        return [sys.executable, "-m", "pytest", f"--rootdir={self.root}", *arguments]

    def environment(self, report: Path) -> dict[str, str]:
        """Where our plugin is found, and writes to."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return {**os.environ, "PYTHONPATH": path, VARIABLE: str(report)}

    def names(self) -> list[str]:
        """All of them, as pytest takes them."""
        command = self.command(self.folder, "--collect-only", "-q")
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        names = [line for line in done.stdout.splitlines() if "::" in line]
        if not names or done.returncode:
            raise SystemExit(f"{self.folder}: no tests:\n{done.stdout}{done.stderr}")
        return names


def grouped(names: Iterable[str]) -> list[list[str]]:
    """Those that share a file and a backend, in the order in which they are to run."""
    groups: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name in names:
        groups[_place(name)].append(name)
    return [groups[place] for place in sorted(groups)]


def _place(name: str) -> tuple[int, int]:
    path, _, test = name.partition("::")
    file = Path(path).name
    backends = [each for each in BACKENDS if each in test]
    backend = max(backends, key=len, default=None)
    return (
        FILES.index(file) if file in FILES else len(FILES),
        -1 if backend is None else BACKENDS.index(backend),
    )


def run(tests: Suite, names: Sequence[str], deadline: Deadline) -> list[Outcome]:
    """What becomes of some of them, whatever becomes of the processes that they run in."""
    found: dict[str, Outcome] = {}
    while waiting := [name for name in names if name not in found]:
        if deadline.left == 0:
            found |= {name: Outcome(name, "not there", "out of time") for name in waiting}
            break
        said, ending = _run_once(tests, waiting, deadline)
        found |= said
        if not ending:
            break
        begun = [name for name in said if said[name].result == "begun"]
        for name in begun or waiting:
            found[name] = Outcome(name, "failed", ending)
    return [found.get(name, Outcome(name, "failed", "pytest told nothing of it")) for name in names]


def _run_once(
    tests: Suite, names: Sequence[str], deadline: Deadline
) -> tuple[dict[str, Outcome], str]:
    """What one process told, and how it ended before its time; an empty text if it did not."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        report.touch()
        command = tests.command("-p", "scripts.gpu_report", *names)
        try:
            code = subprocess.run(
                command,
                cwd=tests.root,
                env=tests.environment(report),
                timeout=deadline.left,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return _told(report), "out of time"
        return _told(report), "" if code in {0, 1} else _ended(code)


def _told(report: Path) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for line in report.read_text().splitlines():
        content = {"result": "begun", "detail": "", **json.loads(line)}
        found[content["name"]] = Outcome(**content)
    return found


def _ended(code: int) -> str:
    if code < 0:
        return f"the process ended by {signal.Signals(-code).name}"
    return f"pytest exited with code {code}"


def machine() -> dict[str, str]:
    """What the outcome is of."""
    devices = find_devices()
    gpu = devices.first
    facts = {
        "gpu": str(gpu) if gpu else f"none: {devices.reason}",
        "driver": f"CUDA {gpu.driver}" if gpu else "none",
    }
    for backend in BACKENDS:
        try:
            facts[backend] = installed_version(backend)
        except BackendError as error:
            facts[backend] = str(error)
    return facts


def table(found: list[Outcome]) -> str:
    """What ran, what failed, what was not there."""
    lines = []
    for result in ("ran", "failed", "not there"):
        of_it = [outcome for outcome in found if outcome.result == result]
        lines.append(f"{result}: {len(of_it)}")
        lines += [
            f"  {each.name}" + (f"  ({each.detail})" if each.detail else "") for each in of_it
        ]
    return "\n".join(lines)


def check(tests: Suite, deadline: Deadline, keep: Callable[[list[Outcome]], None]) -> list[Outcome]:
    """Run all of them; `keep` is told all that is known whenever there is more."""
    found: list[Outcome] = []
    for group in grouped(tests.names()):
        found += run(tests, group, deadline)
        keep(found)
    return found


def main() -> int:
    """0 where something ran and nothing failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the outcome as JSON")
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="end after so long; the rest is not there"
    )
    arguments = parser.parse_args()
    facts = machine()

    def keep(found: list[Outcome]) -> None:
        if arguments.write:
            content = {"machine": facts, "tests": [vars(outcome) for outcome in found]}
            arguments.write.write_text(json.dumps(content, indent=1) + "\n")

    deadline = Deadline(arguments.seconds, time.monotonic())
    found = check(Suite(ROOT, "tests/gpu"), deadline, keep)
    print("\n".join(f"{name}: {text}" for name, text in facts.items()))
    print(table(found))
    if any(outcome.result == "failed" for outcome in found):
        return FAILED
    return 0 if any(outcome.result == "ran" for outcome in found) else NOTHING_RAN


if __name__ == "__main__":
    sys.exit(main())

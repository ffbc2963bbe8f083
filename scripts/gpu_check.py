"""Runs every test that needs a GPU, and ends with what ran, what failed, and what was not there.

    python -m scripts.gpu_check [--write FILE] [--seconds N] [--only WHAT] [--packages FOLDER]

No network is used. Each backend that is installed has a process for all its tests; one that a
vendor's library ends costs the test that it ended in, and the others go on in another process. A
backend that is not installed, or that does not run on this GPU, costs nothing. With --write the
outcome is kept as JSON with the GPU, its driver and the versions, so far as it is known at any
time: benchmarks/results/ is where such files are committed.

--packages names the packages that `python -m tests.tiny.packages FOLDER` builds; without them they
are built first, which takes PyTorch and minutes.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from runtime.backends.devices import Devices, find_devices
from runtime.backends.rows import TARGET_BACKENDS
from runtime.errors import BackendError
from scripts.gpu_processes import ROOT, Deadline, Outcome, Stage, Suite, run
from tests.tiny.packages import PACKAGES, missing

NOTHING_RAN = 1
FAILED = 1

# What costs least and says most comes first: time may be short.
FILES = ("test_cuda.py", "test_backends.py", "test_families.py", "test_lasting.py")

BACKENDS = tuple(row.name for row in TARGET_BACKENDS)

CUDA = "CUDA"
"""The tests that are of no backend."""


@dataclass
class Found:
    """All that is known so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)


def grouped(names: Iterable[str], only: Sequence[str] = ()) -> dict[str, list[str]]:
    """Tests by their backend, in the order in which they are to run; those of none come first.

    With `only`, those of these backends and of the files that are called so.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names, key=_order):
        file, backend = _place(name)
        if not only or {Path(file).stem, backend} & {*only}:
            groups[backend or CUDA].append(name)
    return dict(groups)


def _order(name: str) -> tuple[int, int]:
    file, backend = _place(name)
    return (
        BACKENDS.index(backend) if backend else -1,
        FILES.index(file) if file in FILES else len(FILES),
    )


def _place(name: str) -> tuple[str, str | None]:
    """The file's name, and the backend among the test's parameters."""
    path, _, test = name.partition("::")
    backends = [each for each in BACKENDS if each in test.partition("[")[2]]
    return Path(path).name, max(backends, key=len, default=None)


def machine(devices: Devices) -> dict[str, str]:
    """What the outcome is of."""
    gpu = devices.first
    facts = {
        "gpu": str(gpu) if gpu else f"none: {devices.reason}",
        "driver": f"CUDA {gpu.driver}" if gpu else "none",
    }
    for row in TARGET_BACKENDS:
        try:
            facts[row.name] = row.installed_version()
        except BackendError as error:
            facts[row.name] = str(error)
    return facts


def absent(devices: Devices) -> dict[str, str]:
    """The groups of tests that cannot run on this machine, each with the reason."""
    gpu = devices.first
    if gpu is None:
        return dict.fromkeys((CUDA, *BACKENDS), f"no GPU: {devices.reason}")
    reasons: dict[str, str] = {}
    for row in TARGET_BACKENDS:
        try:
            row.installed_version()
        except BackendError as error:
            reasons[row.name] = str(error)
        else:
            if fault := row.gpu_fault(gpu.compute_capability):
                reasons[row.name] = fault
    return reasons


def table(found: Found) -> str:
    """What ran, what failed, what was not there; and how long each took."""
    lines = []
    for result in ("ran", "failed", "not there"):
        of_it = [outcome for outcome in found.outcomes if outcome.result == result]
        lines.append(f"{result}: {len(of_it)}")
        lines += [
            f"{_seconds(each.seconds)}  {each.name}" + (f"  ({each.detail})" if each.detail else "")
            for each in of_it
        ]
    lines.append("stages:")
    lines += [
        f"{_seconds(each.seconds)}  {each.name}" + (f"  ({each.count} times)" * (each.count > 1))
        for each in found.stages
    ]
    return "\n".join(lines)


def _seconds(seconds: float) -> str:
    return f"{seconds:7.2f} s" if seconds else " " * 9


def check(
    suite: Suite,
    deadline: Deadline,
    keep: Callable[[Found], None],
    only: Sequence[str] = (),
    not_here: Mapping[str, str] | None = None,
) -> Found:
    """Run them; `keep` is told all that is known whenever there is more.

    `not_here` gives the reason for groups that are not to be begun.
    """
    found = Found()
    began = time.monotonic()
    names = suite.names()
    found.stages.append(Stage("collection", time.monotonic() - began))
    groups = grouped(names, only)
    reasons = not_here or {}
    for group in [each for each in groups if each in reasons]:
        title = f"{group}: {len(groups[group])} tests"
        found.outcomes.append(Outcome(title, "not there", reasons[group]))
    keep(found)
    fault = ""
    for group in [each for each in groups if each not in reasons]:
        if group != CUDA and suite.packages and missing(suite.packages):
            if not fault:
                built, fault = _build(suite.packages, deadline)
                found.stages.append(built)
            if fault:
                title = f"{group}: {len(groups[group])} tests"
                found.outcomes.append(Outcome(title, "failed", fault))
                continue
        outcomes, stages = run(suite, groups[group], deadline)
        found.outcomes += outcomes
        found.stages += [
            Stage(f"{group}: {each.name}", each.seconds, each.count) for each in stages
        ]
        keep(found)
    found.stages.append(Stage("total", time.monotonic() - began))
    keep(found)
    return found


def _build(folder: Path, deadline: Deadline) -> tuple[Stage, str]:
    """Build the packages that tests draw with; the reason where they cannot be built."""
    began = time.monotonic()
    command = [sys.executable, "-W", "ignore", "-m", "tests.tiny.packages", str(folder)]
    fault = ""
    try:
        subprocess.run(command, cwd=ROOT, timeout=deadline.left, check=True)
    except subprocess.TimeoutExpired:
        fault = f"{deadline.words} while packages were built; give them by --packages"
    except subprocess.CalledProcessError as error:
        fault = f"packages cannot be built (code {error.returncode}); give them by --packages"
    return Stage("build packages", time.monotonic() - began), fault


def main() -> int:
    """0 where something ran and nothing failed."""
    arguments = _parser().parse_args()
    # Whoever ends it gets what is known so far.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    deadline = Deadline(arguments.seconds, time.monotonic())
    devices = find_devices()
    facts, not_here = machine(devices), absent(devices)

    def keep(found: Found) -> None:
        if arguments.write:
            content = {
                "machine": facts,
                "tests": [asdict(outcome) for outcome in found.outcomes],
                "stages": [asdict(stage) for stage in found.stages],
            }
            arguments.write.write_text(json.dumps(content, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        packages = arguments.packages or Path(folder) / "packages"
        suite = Suite(ROOT, "tests/gpu", packages=packages, engines=Path(folder))
        found = check(suite, deadline, keep, arguments.only, not_here)
    print("\n".join(f"{name}: {text}" for name, text in facts.items()))
    print(table(found))
    if any(outcome.result == "failed" for outcome in found.outcomes):
        return FAILED
    return 0 if any(outcome.result == "ran" for outcome in found.outcomes) else NOTHING_RAN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the outcome as JSON")
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="end after so long; the rest is not there"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[*BACKENDS, *(Path(file).stem for file in FILES)],
        help="a backend or a file of tests; may be given again",
    )
    parser.add_argument(
        "--packages",
        type=_packages,
        default=os.environ.get(PACKAGES),
        metavar="FOLDER",
        help=f"packages that were built before; or name the folder in ${PACKAGES}",
    )
    return parser


def _packages(text: str) -> Path:
    folder = Path(text).resolve()
    if lacking := missing(folder):
        raise argparse.ArgumentTypeError(
            f"{folder} lacks {', '.join(lacking)}; build them with: "
            f"python -m tests.tiny.packages {folder}"
        )
    return folder


if __name__ == "__main__":
    sys.exit(main())

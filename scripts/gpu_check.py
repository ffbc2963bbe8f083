"""Runs every test that needs a GPU and prints which ran, which failed and which could not run.

    python -m scripts.gpu_check [--write FILE] [--seconds N] [--only WHAT] [--packages FOLDER]

No network is used. Each installed backend runs all its tests in one process. When a vendor's
library ends that process, only the test that was running is lost: the other tests run in another
process. A backend that is not installed, or that does not run on this GPU, is skipped at once. With
--write the outcome is kept as JSON with the GPU, its driver and the versions, and the file is
brought up to date after each backend; such files are committed in benchmarks/results/.

--packages names the folder of packages that `python -m tests.tiny.packages FOLDER` builds. Without
--packages these packages are built first, which needs PyTorch and takes minutes.
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

# The quickest and most telling tests come first, since time may run out.
FILES = ("test_cuda.py", "test_backends.py", "test_families.py", "test_lasting.py")

BACKENDS = tuple(row.name for row in TARGET_BACKENDS)

CUDA = "CUDA"
"""Group of the tests that belong to no backend."""


@dataclass
class Found:
    """Outcomes and stages that are known so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)


def grouped(names: Iterable[str], only: Sequence[str] = ()) -> dict[str, list[str]]:
    """Names of tests by backend, in the order to run them; tests of no backend come first.

    `only` restricts the tests to those of the named backends and files (names without `.py`).
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
    """File name of a test, and the backend among the test's parameters."""
    path, _, test = name.partition("::")
    backends = [each for each in BACKENDS if each in test.partition("[")[2]]
    return Path(path).name, max(backends, key=len, default=None)


def machine(devices: Devices) -> dict[str, str]:
    """Facts about the machine: GPU, driver, and the version of each backend or why it is absent."""
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
    """Groups of tests that cannot run on this machine, each with the reason."""
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
    """Printable table of all tests by result, and of all stages, with seconds."""
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
    """Run a suite group by group; `keep` is called with the findings whenever there are more.

    `not_here` maps each group that is not to be run to the reason.
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
    """Build the packages that the tests use; the stage, and the fault or an empty string."""
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
    """Run the check; 0 when at least one test ran and none failed, 1 otherwise."""
    arguments = _parser().parse_args()
    # A terminated check ends as an interrupted one does: with the outcomes known so far.
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
        "--seconds",
        type=float,
        metavar="N",
        help="end after so long; tests that are left are not there",
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
        help=f"packages that were built before (default: the folder that ${PACKAGES} names)",
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

"""Runs every test that needs a GPU, and ends with what ran, what failed, and what was not there.

    python -m scripts.gpu_check [--write FILE] [--seconds N] [--only WHAT]

No network is used. Each file has a process of its own for each backend; one that a vendor's library
ends costs the test that it ended in, and the others go on in another process. With --write the
outcome is kept as JSON with the GPU, its driver and the versions, so far as it is known at any
time: benchmarks/results/ is where such files are committed.
"""

import argparse
import json
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from runtime.catalog import installed_version
from runtime.devices import find_devices
from runtime.errors import BackendError
from runtime.target import BACKENDS, BackendName
from scripts.gpu_processes import ROOT, Deadline, Outcome, Suite, run

NOTHING_RAN = 1
FAILED = 1

# What costs least and says most comes first: time may be short.
FILES = ("test_cuda.py", "test_backends.py", "test_families.py")


def grouped(names: Iterable[str], only: Sequence[str] = ()) -> list[list[str]]:
    """Those that share a file and a backend, in the order in which they are to run.

    With `only`, those of these backends and of the files that are called so.
    """
    groups: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name in names:
        file, backend = _place(name)
        if not only or {Path(file).stem, backend} & {*only}:
            groups[
                FILES.index(file) if file in FILES else len(FILES),
                BACKENDS.index(backend) if backend else -1,
            ].append(name)
    return [groups[place] for place in sorted(groups)]


def _place(name: str) -> tuple[str, BackendName | None]:
    """The file's name, and the backend among the test's parameters."""
    path, _, test = name.partition("::")
    backends = [each for each in BACKENDS if each in test.partition("[")[2]]
    return Path(path).name, max(backends, key=len, default=None)


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


def check(
    suite: Suite,
    deadline: Deadline,
    keep: Callable[[list[Outcome]], None],
    only: Sequence[str] = (),
) -> list[Outcome]:
    """Run them; `keep` is told all that is known whenever there is more."""
    found: list[Outcome] = []
    for group in grouped(suite.names(), only):
        found += run(suite, group, deadline)
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
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=[*BACKENDS, *(Path(file).stem for file in FILES)],
        help="a backend or a file of tests; may be given again",
    )
    arguments = parser.parse_args()
    # Whoever ends it gets what is known so far.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    facts = machine()

    def keep(found: list[Outcome]) -> None:
        if arguments.write:
            content = {"machine": facts, "tests": [vars(outcome) for outcome in found]}
            arguments.write.write_text(json.dumps(content, indent=1) + "\n")

    deadline = Deadline(arguments.seconds, time.monotonic())
    found = check(Suite(ROOT, "tests/gpu"), deadline, keep, arguments.only)
    print("\n".join(f"{name}: {text}" for name, text in facts.items()))
    print(table(found))
    if any(outcome.result == "failed" for outcome in found):
        return FAILED
    return 0 if any(outcome.result == "ran" for outcome in found) else NOTHING_RAN


if __name__ == "__main__":
    sys.exit(main())

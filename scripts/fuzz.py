"""Runs every fuzz of the tests on many inputs and prints what each tried, for how long, and what
came of it.

    python -m scripts.fuzz [--inputs N] [--processes N] [--seconds N] [--seed N] [--only WORD]
                           [--write FILE]

The fuzzes are the tests with the marker `fuzz`. Each runs in a process of its own and is ended
after --seconds. Its inputs are counted while it runs, so that a fuzz that tried fewer than it
should is no success. A failed input can be had again: the error says how. With --write the outcome
is kept as JSON, with the commit and the versions.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.machine import write

ROOT = Path(__file__).parent.parent
INPUTS = 100_000


@dataclass(frozen=True)
class Fuzz:
    """What one fuzz did."""

    name: str
    """The test, as pytest names it."""
    inputs: int
    """Inputs that were tried."""
    seconds: float
    result: str
    """`clean`, `failed`, `too few inputs`, `out of time` or `not run`."""


def names(only: str = "") -> list[str]:
    """The fuzzes whose names have the word in them."""
    done = _pytest(["--collect-only", "-q", "-m", "fuzz", "tests"], 600)
    found = [line for line in done.stdout.splitlines() if "::" in line and only in line]
    if not found:
        raise SystemExit(f"no fuzz is called {only!r}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return found


def fuzz(name: str, inputs: int, seconds: float, seed: int) -> Fuzz:
    """Run one fuzz; what it says of a failure is printed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        began = time.monotonic()
        try:
            done = _pytest(
                [
                    *("-q", "--tb", "short", "-p", "no:cacheprovider", f"--junitxml={report}"),
                    *("--hypothesis-profile", "fuzz", "--hypothesis-seed", str(seed), name),
                ],
                seconds,
                inputs,
            )
        except subprocess.TimeoutExpired:
            return Fuzz(name, 0, round(time.monotonic() - began, 1), "out of time")
        if not report.is_file():
            print(done.stdout[-4000:], done.stderr[-4000:])
            return Fuzz(name, 0, round(time.monotonic() - began, 1), "not run")
        tried, took = read_report(report)
    if done.returncode:
        print(done.stdout[-6000:])
    result = "failed" if done.returncode else "clean" if tried >= inputs else "too few inputs"
    return Fuzz(name, tried, took, result)


def read_report(path: Path) -> tuple[int, float]:
    """The inputs and the seconds of the one test in pytest's report."""
    case = ET.parse(path).getroot().find(".//testcase")
    found = None if case is None else case.find(".//property[@name='inputs']")
    if case is None or found is None:
        return 0, 0.0
    return int(found.get("value", "0")), float(case.get("time", "0"))


def _pytest(
    arguments: Sequence[str], seconds: float, inputs: int = INPUTS
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FUZZ_INPUTS": str(inputs), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def commit() -> str:
    """The commit of the tree, with a plus where files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main() -> int:
    """Run the fuzzes; 1 unless all of them are clean."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1800, help="for each fuzz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="fuzzes with this word in their names")
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    began = time.monotonic()
    outcomes = []
    with ThreadPoolExecutor(asked.processes) as pool:
        running = [
            pool.submit(fuzz, name, asked.inputs, asked.seconds, asked.seed)
            for name in names(asked.only)
        ]
        for each in running:
            outcome = each.result()
            outcomes.append(outcome)
            print(
                f"{outcome.result:15} {outcome.inputs:8} inputs {outcome.seconds:8.1f} s  "
                f"{outcome.name}",
                flush=True,
            )
            if asked.write is not None:
                kept = [asdict(outcome) for outcome in outcomes]
                write({"commit": commit(), "seed": asked.seed, "fuzzes": kept}, asked.write)
    unclean = [outcome for outcome in outcomes if outcome.result != "clean"]
    print(
        f"{len(outcomes) - len(unclean)} of {len(outcomes)} fuzzes are clean, "
        f"{sum(outcome.inputs for outcome in outcomes)} inputs, {time.monotonic() - began:.0f} s"
    )
    return 1 if unclean else 0


if __name__ == "__main__":
    sys.exit(main())

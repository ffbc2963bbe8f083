"""Runs every fuzz of the tests on many inputs and prints what each tried, for how long, and what
came of it.

    python -m scripts.fuzz [--inputs N] [--processes N] [--seconds N] [--seed N] [--only WORD]
                           [--write FILE]

The fuzzes are the tests with the marker `fuzz`. Those of a file run in one process, which is ended
when each has had --seconds. Inputs are counted while they are tried, so that a fuzz that tried
fewer than it should is no success. A failed input can be had again: the error says how. With
--write the outcome is kept as JSON, with the commit and the versions.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.machine import write

ROOT = Path(__file__).parent.parent
INPUTS = 100_000


@dataclass(frozen=True)
class Fuzz:
    """Outcome of one fuzz."""

    name: str
    """The test, as pytest names it."""
    inputs: int
    """Inputs that were tried."""
    seconds: float
    result: str
    """`clean`, `failed`, `too few inputs`, `out of time` or `not run`."""


def names(only: str = "") -> dict[str, list[str]]:
    """The fuzzes whose names have the word in them, by their file."""
    # Not of every file: importing all tests takes longer than some fuzzes.
    files = sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark.fuzz" in path.read_text()
    )
    done = _pytest(["--collect-only", "-q", "-m", "fuzz", *files], 1800)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        file, separator, _ = line.partition("::")
        if separator and only in line:
            found.setdefault(file, []).append(line)
    if done.returncode:
        raise SystemExit(f"not all fuzzes can be read:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    if not found:
        raise SystemExit(f"no fuzz is called {only!r}")
    return found


def fuzz(tests: Sequence[str], inputs: int, seconds: float, seed: int) -> list[Fuzz]:
    """Run the fuzzes of one file; what they say of failures is printed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "--tb", "short", f"--junitxml={report}", "-o", "junit_family=xunit1"]
        profile = ["--hypothesis-profile", "fuzz", "--hypothesis-seed", str(seed)]
        try:
            done = _pytest([*options, *profile, *tests], seconds * len(tests), inputs)
        except subprocess.TimeoutExpired:
            return [Fuzz(name, 0, seconds, "out of time") for name in tests]
        if done.returncode:
            print(done.stdout[-6000:], done.stderr[-2000:])
        cases = ET.parse(report).getroot().iter("testcase") if report.is_file() else ()
        found = {case.name: case for case in (read_case(case, inputs) for case in cases)}
    lost = [Fuzz(name, 0, 0.0, "not run") for name in tests if _short(name) not in found]
    return [
        replace(found[_short(name)], name=name) for name in tests if _short(name) in found
    ] + lost


def read_case(case: ET.Element, inputs: int) -> Fuzz:
    """A test of pytest's report, of which so many inputs were asked."""
    stated = case.find("properties/property[@name='inputs']")
    tried = 0 if stated is None else int(stated.get("value", "0"))
    failed = case.find("failure") is not None or case.find("error") is not None
    result = "failed" if failed else "clean" if tried >= inputs else "too few inputs"
    return Fuzz(case.get("name", ""), tried, float(case.get("time", "0")), result)


def _short(name: str) -> str:
    return name.partition("::")[2]


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fuzzes; 1 unless all of them are clean."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1800, help="for each fuzz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="fuzzes with this word in their names")
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    outcomes: list[Fuzz] = []
    with ThreadPoolExecutor(asked.processes) as pool:
        running = [
            pool.submit(fuzz, tests, asked.inputs, asked.seconds, asked.seed)
            # The file with the most to do first, so that the processes end together.
            for tests in sorted(names(asked.only).values(), key=len, reverse=True)
        ]
        for each in as_completed(running):
            outcomes += each.result()
            for done in each.result():
                line = f"{done.result:15} {done.inputs:8} inputs {done.seconds:8.1f} s  {done.name}"
                print(line, flush=True)
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

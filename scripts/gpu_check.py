"""Runs every test that needs a GPU, and ends with what ran, what failed, and what was not there.

    python -m scripts.gpu_check [--write FILE]

No network is used. With --write the outcome is kept as JSON with the GPU, its driver and the
versions: benchmarks/results/ is where such files are committed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from runtime.catalog import installed_version
from runtime.devices import find_devices
from runtime.errors import BackendError
from runtime.target import BACKENDS

ROOT = Path(__file__).parent.parent
NOTHING_RAN = 1


@dataclass(frozen=True)
class Outcome:
    """One test."""

    name: str
    result: str
    """ran, failed, or not there."""
    detail: str


def outcomes(report: Path) -> list[Outcome]:
    """The tests of pytest's report in JUnit's form."""
    # It was written by our own pytest just now.
    root = ET.parse(report).getroot()
    return [_outcome(case) for case in root.iter("testcase")]


def _outcome(case: ET.Element) -> Outcome:
    name = f"{case.get('classname', '').removeprefix('tests.gpu.')}: {case.get('name')}"
    for kind, result in (("failure", "failed"), ("error", "failed"), ("skipped", "not there")):
        found = case.find(kind)
        if found is not None:
            return Outcome(name, result, " ".join((found.get("message") or "").split()))
    properties = [
        f"{each.get('name')}: {each.get('value')}" for each in case.iterfind("properties/property")
    ]
    return Outcome(name, "ran", "; ".join(properties))


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


def main() -> int:
    """0 where something ran and nothing failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the outcome as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "tests/gpu", f"--junitxml={report}"]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        found = outcomes(report) if report.is_file() else []
    facts = machine()
    print("\n".join(f"{name}: {text}" for name, text in facts.items()))
    print(table(found))
    if arguments.write:
        content = {"machine": facts, "tests": [vars(outcome) for outcome in found]}
        arguments.write.write_text(json.dumps(content, indent=1) + "\n")
    if code == 0 and not any(outcome.result == "ran" for outcome in found):
        return NOTHING_RAN
    return code


if __name__ == "__main__":
    sys.exit(main())

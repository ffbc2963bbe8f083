"""Runs tests in processes of their own, and keeps every result when a process crashes or hangs.

The first thing that a new GPU shows may be a fault that ends the process, or a call that never
returns.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.gpu_report import BEGAN, BEGUN, LOST, OVER, STAGE, VARIABLE, Line
from tests.tiny.packages import ENGINES, PACKAGES

ROOT = Path(__file__).parent.parent

PROCESSES = 3
"""Processes that may crash at the tests of one group; each of them opens the engines anew."""

_COLLECTION = 60.0
"""Seconds that pytest may take to collect the tests; two are usual."""

_GRACE = 10.0
"""Seconds for pytest, once interrupted, to tear its fixtures down."""


@dataclass(frozen=True)
class Outcome:
    """Result of one test."""

    name: str
    result: str
    """`ran`, `failed` or `not there`."""
    detail: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Stage:
    """Time that all tests of a group together spent in one part of the work."""

    name: str
    seconds: float
    count: int = 1


@dataclass
class Deadline:
    """Point in time after which nothing is begun and running tests are ended.

    `seconds` counts from `began`, a value of `time.monotonic()`; None is no deadline.
    """

    seconds: float | None
    began: float
    interrupted: bool = False

    @property
    def left(self) -> float | None:
        """Seconds that are left; None without a deadline."""
        if self.interrupted:
            return 0.0
        if self.seconds is None:
            return None
        return max(0.0, self.began + self.seconds - time.monotonic())

    @property
    def words(self) -> str:
        """Reason for ending, for an outcome."""
        return "interrupted" if self.interrupted else "out of time"


@dataclass(frozen=True)
class Suite:
    """Folder of tests, and the settings under which pytest runs them."""

    root: Path
    folder: str
    test_seconds: float = 400.0
    """Most seconds for a single test; then its process is ended, wherever it hangs."""
    packages: Path | None = None
    """Folder of the model packages that the tests use."""
    engines: Path | None = None
    """Folder of compiled engines, shared by all processes."""

    def command(self, *arguments: str) -> list[str]:
        """Command line of pytest with these arguments, to be run in `root`."""
        # The conftest.py of all tests is not read: it imports PyTorch, which takes seconds.
        alone = [f"--rootdir={self.root}", f"--confcutdir={self.root / self.folder}"]
        return [sys.executable, "-m", "pytest", *alone, "-p", "no:cacheprovider", *arguments]

    def running(self, names: Sequence[str]) -> list[str]:
        """Command line of pytest that runs the tests of these names."""
        limit = [
            *("-o", f"faulthandler_timeout={self.test_seconds}"),
            *("-o", "faulthandler_exit_on_timeout=true"),
        ]
        return self.command("-p", "scripts.gpu_report", *limit, *names)

    def environment(self, report: Path | None = None) -> dict[str, str]:
        """Environment of a pytest process: where to find our plugin, its report and the folders."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        # Installed plugins take seconds to load, and no test for a GPU uses one.
        ours = {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        told = {VARIABLE: report, PACKAGES: self.packages, ENGINES: self.engines}
        ours |= {name: str(folder) for name, folder in told.items() if folder}
        return {**os.environ, **ours, BEGAN: str(time.monotonic())}

    def names(self) -> list[str]:
        """Names of all tests, as pytest takes them. Raises SystemExit when pytest finds none."""
        command = self.command(self.folder, "--collect-only", "-q")
        try:
            done = subprocess.run(
                command,
                cwd=self.root,
                env=self.environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=_COLLECTION,
            )
        except subprocess.TimeoutExpired:
            words = f"{self.folder}: its tests were not collected in {_COLLECTION:g} seconds"
            raise SystemExit(words) from None
        names = [line for line in done.stdout.splitlines() if "::" in line]
        if not names or done.returncode:
            raise SystemExit(f"{self.folder}: no tests:\n{done.stdout}{done.stderr}")
        return names


@dataclass(frozen=True)
class _Told:
    """Report of one process, and how that process ended."""

    outcomes: dict[str, Outcome]
    stages: list[Stage]
    under_way: str | None
    """Test that was running when the process ended."""
    fault: str
    """Reason why the process ended early; empty when it ended as usual."""
    lost: bool
    """True where the process ended behind a test that took the device from it."""


def run(
    suite: Suite, names: Sequence[str], deadline: Deadline
) -> tuple[list[Outcome], list[Stage]]:
    """Run the named tests; an outcome for each test, and the stages with their times.

    A process that ends early costs the test that was running: that test has failed, and the
    remaining tests run in another process, up to `PROCESSES` such ends. So they do behind a test
    that failed and left its process without a device.
    """
    found: dict[str, Outcome] = {}
    stages: list[Stage] = []
    ended = 0
    while (waiting := [name for name in names if name not in found]) and ended < PROCESSES:
        if deadline.left == 0:
            found |= {name: Outcome(name, "not there", deadline.words) for name in waiting}
            break
        told = _run_once(suite, waiting, deadline)
        found |= told.outcomes
        stages += told.stages
        if told.fault:
            ended += 1
            untold = (name for name in waiting if name not in told.outcomes)
            where = told.under_way or next(untold, f"{waiting[-1]}, behind it")
            found[where] = Outcome(where, "failed", told.fault)
        elif told.lost:
            ended += 1
        elif deadline.left != 0:
            break
    missing = (
        ("not there", f"{ended} processes ended before it")
        if ended == PROCESSES
        else ("failed", "pytest told nothing of it")
    )
    for name in names:
        found.setdefault(name, Outcome(name, *missing))
    first_in_order = {name: found.pop(name) for name in names}
    return [*first_in_order.values(), *found.values()], _added_up(stages)


def _added_up(stages: Sequence[Stage]) -> list[Stage]:
    """Stages summed by name, in the order in which each name first ended."""
    total: dict[str, Stage] = {}
    for each in stages:
        before = total.get(each.name, Stage(each.name, 0.0, 0))
        total[each.name] = Stage(each.name, before.seconds + each.seconds, before.count + 1)
    return list(total.values())


def _run_once(suite: Suite, names: Sequence[str], deadline: Deadline) -> _Told:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        report.touch()
        code = _exit_code(suite, names, report, deadline)
        lines = [Line(**json.loads(text)) for text in report.read_text().splitlines()]
    outcomes, stages, under_way = _read(lines)
    lost = any(line.result == LOST for line in lines)
    return _Told(outcomes, stages, under_way, _fault(code, under_way, suite, deadline), lost)


def _fault(code: int | None, under_way: str | None, suite: Suite, deadline: Deadline) -> str:
    if code is None:
        return deadline.words if under_way else ""
    if code < 0:
        return f"the process ended by {signal.Signals(-code).name}"
    if under_way is not None or code not in {0, 1}:
        return f"the process ended with code {code}{_limit(code, suite)}"
    return ""


def _limit(code: int, suite: Suite) -> str:
    # Python's watchdog ends the process with code 1 and prints the place to standard error alone.
    return f", as after {suite.test_seconds:g} seconds in a test" if code == 1 else ""


def _exit_code(suite: Suite, names: Sequence[str], report: Path, deadline: Deadline) -> int | None:
    """Exit code of the process; None when it was ended at the deadline or by an interruption."""
    process = subprocess.Popen(
        suite.running(names),
        cwd=suite.root,
        env=suite.environment(report),
        start_new_session=True,
    )
    try:
        return process.wait(deadline.left)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as reason:
        deadline.interrupted = isinstance(reason, KeyboardInterrupt)
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        return None
    finally:
        # A server or a compiler that a test left behind may hold the GPU's memory.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # A process that is stuck in the driver does not even end by SIGKILL.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)


def _read(lines: Iterable[Line]) -> tuple[dict[str, Outcome], list[Stage], str | None]:
    """Outcomes and stages of a report, and the test that was begun and is not over."""
    found: dict[str, Outcome] = {}
    stages: list[Stage] = []
    under_way: Line | None = None
    for line in lines:
        if line.result == BEGUN:
            under_way = line
        elif line.result == STAGE:
            stages.append(Stage(line.name, line.seconds))
        elif line.result not in {OVER, LOST}:
            found[line.name] = Outcome(line.name, line.result, line.detail)
        elif under_way:
            if line.name in found:
                seconds = round(line.at - under_way.at, 3)
                found[line.name] = replace(found[line.name], seconds=seconds)
            under_way = None
    return found, stages, under_way.name if under_way else None

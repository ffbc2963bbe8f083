"""Runs tests in processes that may end at any of them, or never: no result is lost by it.

What a new GPU shows first may be a fault that takes the process, or a call that does not return.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.gpu_report import BEGAN, BEGUN, OVER, STAGE, VARIABLE, Line
from tests.tiny.packages import ENGINES, PACKAGES

ROOT = Path(__file__).parent.parent

PROCESSES = 3
"""So many may end at tests of one group: each begins by opening their engines again."""

_COLLECTION = 60.0
"""Seconds for pytest to find its tests, which takes two."""

_GRACE = 10.0
"""Seconds in which pytest ends what its fixtures started."""


@dataclass(frozen=True)
class Outcome:
    """One test."""

    name: str
    result: str
    """ran, failed, or not there."""
    detail: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Stage:
    """A part of the work, of all tests of a group together."""

    name: str
    seconds: float
    count: int = 1


@dataclass
class Deadline:
    """When no more is begun and what runs is ended; `seconds` of None is never."""

    seconds: float | None
    began: float
    interrupted: bool = False

    @property
    def left(self) -> float | None:
        """Seconds from now."""
        if self.interrupted:
            return 0.0
        if self.seconds is None:
            return None
        return max(0.0, self.began + self.seconds - time.monotonic())

    @property
    def words(self) -> str:
        """What it was that came."""
        return "interrupted" if self.interrupted else "out of time"


@dataclass(frozen=True)
class Suite:
    """A folder of tests, and the one that pytest's settings are for."""

    root: Path
    folder: str
    test_seconds: float = 400.0
    """What a single test may take; then its process is ended, wherever it hangs."""
    packages: Path | None = None
    """The packages that tests draw with."""
    engines: Path | None = None
    """A folder in which what one process compiled is found by the next."""

    def command(self, *arguments: str) -> list[str]:
        """Pytest with these arguments; it is to run in `root`."""
        # What tests elsewhere share is not read: it imports PyTorch, which takes seconds.
        alone = [f"--rootdir={self.root}", f"--confcutdir={self.root / self.folder}"]
        return [sys.executable, "-m", "pytest", *alone, "-p", "no:cacheprovider", *arguments]

    def running(self, names: Sequence[str]) -> list[str]:
        """Pytest, running these."""
        limit = [
            *("-o", f"faulthandler_timeout={self.test_seconds}"),
            *("-o", "faulthandler_exit_on_timeout=true"),
        ]
        return self.command("-p", "scripts.gpu_report", *limit, *names)

    def environment(self, report: Path | None = None) -> dict[str, str]:
        """Where our plugin is found, and writes to."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        # Plugins that are installed take seconds to load, and no test for a GPU uses one.
        ours = {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        told = {VARIABLE: report, PACKAGES: self.packages, ENGINES: self.engines}
        ours |= {name: str(folder) for name, folder in told.items() if folder}
        return {**os.environ, **ours, BEGAN: str(time.monotonic())}

    def names(self) -> list[str]:
        """All of them, as pytest takes them."""
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
    """What one process told before its end, and what that end was."""

    outcomes: dict[str, Outcome]
    stages: list[Stage]
    under_way: str | None
    """The test that was not over."""
    fault: str
    """How it ended before its time; empty if it did not."""


def run(
    suite: Suite, names: Sequence[str], deadline: Deadline
) -> tuple[list[Outcome], list[Stage]]:
    """What becomes of some of them, whatever becomes of the processes that they run in: one that
    ends costs the test that it ended in, and the others run in another. And what took the time.
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
    """One for each name, in the order in which they first ended."""
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
        outcomes, stages, under_way = _read(report)
    return _Told(outcomes, stages, under_way, _fault(code, under_way, suite, deadline))


def _fault(code: int | None, under_way: str | None, suite: Suite, deadline: Deadline) -> str:
    if code is None:
        return deadline.words if under_way else ""
    if code < 0:
        return f"the process ended by {signal.Signals(-code).name}"
    if under_way is not None or code not in {0, 1}:
        return f"the process ended with code {code}{_limit(code, suite)}"
    return ""


def _limit(code: int, suite: Suite) -> str:
    # Python's watchdog says no more than this, and where it hung, on standard error.
    return f", as after {suite.test_seconds:g} seconds in a test" if code == 1 else ""


def _exit_code(suite: Suite, names: Sequence[str], report: Path, deadline: Deadline) -> int | None:
    """None where it had to be ended, for the deadline or an interruption."""
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
        # One that is stuck in the driver does not end of that either.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)


def _read(report: Path) -> tuple[dict[str, Outcome], list[Stage], str | None]:
    """What became of tests that came to anything, the stages, and the test that was not over."""
    found: dict[str, Outcome] = {}
    stages: list[Stage] = []
    under_way: Line | None = None
    for text in report.read_text().splitlines():
        line = Line(**json.loads(text))
        if line.result == BEGUN:
            under_way = line
        elif line.result == STAGE:
            stages.append(Stage(line.name, line.seconds))
        elif line.result != OVER:
            found[line.name] = Outcome(line.name, line.result, line.detail)
        elif under_way:
            if line.name in found:
                seconds = round(line.at - under_way.at, 3)
                found[line.name] = replace(found[line.name], seconds=seconds)
            under_way = None
    return found, stages, under_way.name if under_way else None

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
from dataclasses import dataclass
from pathlib import Path

from scripts.gpu_report import BEGUN, OVER, VARIABLE

ROOT = Path(__file__).parent.parent

PROCESSES = 3
"""So many may end at tests of one group: each begins by compiling their engines again."""

_GRACE = 10.0
"""Seconds in which pytest ends what its fixtures started."""


@dataclass(frozen=True)
class Outcome:
    """One test."""

    name: str
    result: str
    """ran, failed, or not there."""
    detail: str


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

    def command(self, *arguments: str) -> list[str]:
        """Pytest with these arguments; it is to run in `root`."""
        return [sys.executable, "-m", "pytest", f"--rootdir={self.root}", *arguments]

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
        return {**os.environ, **ours, **({VARIABLE: str(report)} if report else {})}

    def names(self) -> list[str]:
        """All of them, as pytest takes them."""
        command = self.command(self.folder, "--collect-only", "-q")
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        names = [line for line in done.stdout.splitlines() if "::" in line]
        if not names or done.returncode:
            raise SystemExit(f"{self.folder}: no tests:\n{done.stdout}{done.stderr}")
        return names


@dataclass(frozen=True)
class _Told:
    """What one process told before its end, and what that end was."""

    outcomes: dict[str, Outcome]
    under_way: str | None
    """The test that was not over."""
    fault: str
    """How it ended before its time; empty if it did not."""


def run(suite: Suite, names: Sequence[str], deadline: Deadline) -> list[Outcome]:
    """What becomes of some of them, whatever becomes of the processes that they run in: one that
    ends costs the test that it ended in, and the others run in another.
    """
    found: dict[str, Outcome] = {}
    ended = 0
    while (waiting := [name for name in names if name not in found]) and ended < PROCESSES:
        if deadline.left == 0:
            found |= {name: Outcome(name, "not there", deadline.words) for name in waiting}
            break
        told = _run_once(suite, waiting, deadline)
        found |= told.outcomes
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
    return [*first_in_order.values(), *found.values()]


def _run_once(suite: Suite, names: Sequence[str], deadline: Deadline) -> _Told:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        report.touch()
        code = _exit_code(suite, names, report, deadline)
        outcomes, under_way = _told(report)
    if code is None:
        return _Told(outcomes, under_way, deadline.words if under_way else "")
    if code < 0:
        return _Told(outcomes, under_way, f"the process ended by {signal.Signals(-code).name}")
    if under_way is not None or code not in {0, 1}:
        return _Told(
            outcomes, under_way, f"the process ended with code {code}{_limit(code, suite)}"
        )
    return _Told(outcomes, None, "")


def _limit(code: int, suite: Suite) -> str:
    # Python's watchdog says no more than this, and where it hung, on standard error.
    return f", as after {suite.test_seconds:g} seconds in a test" if code == 1 else ""


def _exit_code(suite: Suite, names: Sequence[str], report: Path, deadline: Deadline) -> int | None:
    """None where it had to be ended, for the deadline or an interruption."""
    with subprocess.Popen(
        suite.running(names),
        cwd=suite.root,
        env=suite.environment(report),
        start_new_session=True,
    ) as process:
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


def _told(report: Path) -> tuple[dict[str, Outcome], str | None]:
    """What became of each test that came to anything, and the one that was not over."""
    found: dict[str, Outcome] = {}
    under_way = None
    for line in report.read_text().splitlines():
        told = Outcome(**json.loads(line))
        if told.result == BEGUN:
            under_way = told.name
        elif told.result == OVER:
            under_way = None
        else:
            found[told.name] = told
    return found, under_way

"""The parent's end of a drawer: a process that draws each request that it is sent."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.server_process import ROOT, STOP_SECONDS, child_environment


class DrawerError(Exception):
    """Reason why a drawer cannot be measured."""


class Drawer:
    """Process of one contestant, as a context manager: open inside of the block."""

    def __init__(
        self, module: str, options: Mapping[str, Any], log: Path, python: str = sys.executable
    ) -> None:
        """`module` is one of `benchmarks.drawers`; `log` gets what it prints; `python` runs it."""
        self._command = [python, "-m", f"benchmarks.drawers.{module}", json.dumps(options)]
        self._log = log
        self.facts: dict[str, Any] = {}
        """The drawer's own facts, for a result."""

    def __enter__(self) -> Self:
        """Start the process and wait until it is open. Raises DrawerError."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=child_environment(),
            )
        try:
            self.facts = self._answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End the process; kill it when it does not end in `STOP_SECONDS`."""
        try:
            self._process.communicate(timeout=STOP_SECONDS)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def draw(self, body: Mapping[str, Any], picture: Path) -> dict[str, float]:
        """Draw one picture into a file; milliseconds of its stages. Raises DrawerError."""
        assert self._process.stdin is not None
        try:
            print(json.dumps({**body, "picture": str(picture)}), file=self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # The answer says why.
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._log.read_text().strip().splitlines() or ["it said nothing"]
            raise DrawerError(f"{self._command[2]} ended: {said[-1]}; see {self._log}")
        found: dict[str, Any] = json.loads(line)
        return found

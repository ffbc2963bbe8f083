"""Server as a process of its own on a free port: waited for until it is ready, and stopped."""

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

ROOT = Path(__file__).parents[1]
PAUSE = 0.02
"""Seconds between two polls."""
STOP_SECONDS = 20.0


class ServingError(Exception):
    """Reason why the server cannot be measured."""


class ServerProcess:
    """Server process, as a context manager: ready inside of the block, stopped at its end.

    It has to answer 200 to `GET /health` once it listens, and to `GET /ready` once it can draw.
    """

    def __init__(
        self, command: Sequence[str], port: int, log: Path, patience: float = 180.0
    ) -> None:
        """`command` listens on `port` of this machine. `log` gets all that it prints. `patience` is
        the limit of every wait, in seconds. The process is started on entering the context.
        """
        self._command = command
        self._port = port
        self._log = log
        self.patience = patience
        self.api_seconds = 0.0
        """Seconds from the start of the process to its first answer."""
        self.ready_seconds = 0.0
        """Seconds from the start of the process until it can draw."""

    def __enter__(self) -> Self:
        """Start the server and wait until it is ready. Raises ServingError."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=child_environment(),
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=self.patience)
        try:
            self._wait(began, "/health")
            self.api_seconds = time.perf_counter() - began
            self._wait(began, "/ready")
            self.ready_seconds = time.perf_counter() - began
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
        """Stop the server; kill it when it does not stop in `STOP_SECONDS`."""
        self.client.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # A worker ends by itself when its server is gone.
            self._process.kill()
            self._process.wait(STOP_SECONDS)

    @property
    def pid(self) -> int:
        """Process id of the server itself."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait until the server can draw. Raises ServingError."""
        self._wait(time.perf_counter(), "/ready")

    def wait_unready(self) -> None:
        """Wait until the server cannot draw. Raises ServingError."""
        self._wait(time.perf_counter(), "/ready", answers=False)

    def log_lines(self) -> list[str]:
        """Lines of the log, those of earlier servers with the same log included."""
        return self._log.read_text().strip().splitlines() if self._log.is_file() else []

    def _wait(self, began: float, path: str, *, answers: bool = True) -> None:
        while self._answers(path) is not answers:
            if self._process.poll() is not None:
                code, last = self._process.returncode, self._last_line()
                raise ServingError(f"the server ended with code {code}: {last}")
            if time.perf_counter() - began > self.patience:
                health = self.client.get("/health", timeout=5).text
                raise ServingError(f"no {path} in {self.patience:g} s: {health}")
            time.sleep(PAUSE)

    def _last_line(self) -> str:
        lines = self.log_lines()
        return lines[-1] if lines else "it said nothing"

    def _answers(self, path: str) -> bool:
        try:
            return self.client.get(path).status_code == 200
        except httpx.TransportError:
            return False


def child_environment() -> dict[str, str]:
    """Environment of a process that is measured: this tree's modules come before installed ones."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def free_port() -> int:
    """Port on 127.0.0.1 that no process listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

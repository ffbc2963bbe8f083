"""A worker's process, from its start to its end.

This module imports next to nothing, so that `calotype serve` starts its worker before the server's
own imports: both processes import for half a second, side by side.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from types import TracebackType
from typing import Self

from runtime.errors import CalotypeError

MODULE = "runtime.worker.main"
"""The module that a worker's process runs."""

# NumPy's matrix products lay LoRAs on weights while steps go on. OpenBLAS' own threads would take
# the cores from the steps, and on a busy machine wait for the slowest thread. A single thread takes
# a seventh of the processor's time.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}


class NotStarted(CalotypeError):
    """The system starts no process for a worker."""


class WorkerProcess:
    """A process that was started and waits for its options, with the server's end of its link.

    A context manager: the process is gone at the end.
    """

    def __init__(self) -> None:
        """Start the process. Raises NotStarted."""
        self.connection, theirs = socket.socketpair()
        command = [sys.executable, "-m", MODULE, str(theirs.fileno())]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    # Ctrl-C in a terminal is for the server, which then asks the worker.
                    start_new_session=True,
                    env={**_ENVIRONMENT, **os.environ},
                )
            except OSError as error:
                self.connection.close()
                raise NotStarted(f"a worker's process cannot be started: {error}") from error

    def __enter__(self) -> Self:
        """Nothing but the process."""
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Kill the process where nobody ended it before."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        self.connection.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        self._process.send_signal(number)

    async def kill(self) -> str:
        """End the process, if need be, and wait for its end; returns that in words."""
        self.signal(signal.SIGKILL)
        # A process ends late where a device has to be given back.
        code = await asyncio.to_thread(self._process.wait)
        if code < 0:
            return f"process {self.pid} ended by {signal.Signals(-code).name}"
        return f"process {self.pid} exited with code {code}"

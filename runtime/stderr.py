"""Log lines on standard error, which never hold a program up for long.

Whoever reads standard error may stop to: then a pipe is full, and a plain write waits for ever.
"""

import logging
import os
import select
import stat
import sys

STDERR = 2

PATIENCE_MS = 1000
"""How long a line waits for a reader; once one has waited in vain, none waits until there is room
again.
"""

logger = logging.getLogger(__name__)


class StderrLines(logging.Handler):
    """Writes each record as a line, whole or not at all; says afterwards how many were lost."""

    def __init__(self) -> None:
        """Nothing is opened: it is the process's own standard error."""
        super().__init__()
        self._poll = select.poll()
        self._poll.register(STDERR, select.POLLOUT)
        # So much a pipe takes at once, and never mixed with the lines of another process.
        whole = stat.S_ISREG(os.fstat(STDERR).st_mode)
        self._most = sys.maxsize if whole else select.PIPE_BUF
        self._patience = PATIENCE_MS
        self._rest = b""
        """The end of a line whose begin is written."""
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it as lost."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        except Exception:
            self.handleError(record)
            return
        self._write()
        if self._rest or not self._ready():
            self._lost += 1
            return
        self._rest = line
        self._write()
        lost, self._lost = self._lost, 0
        if lost:
            logger.warning("%d lines were lost: nobody read standard error", lost)

    def _write(self) -> None:
        while self._rest and self._ready():
            try:
                written = os.write(STDERR, self._rest[: self._most])
            except OSError:
                # Nobody will ever read it, or its disk is full: there is no place to say so.
                written = len(self._rest)
            self._rest = self._rest[written:]

    def _ready(self) -> bool:
        """True where a write will not wait."""
        ready = bool(self._poll.poll(self._patience))
        self._patience = PATIENCE_MS if ready else 0
        return ready

"""A process that compiles one engine and ends: `python -m engine_build.target.tensorrt.child`.

It reads its job from standard input and reports in lines of JSON on standard output. What the
vendor's libraries print goes to standard error.
"""

import os
import resource
import signal
import sys
import time
from ctypes import CDLL
from typing import TextIO

from engine_build.target.tensorrt.compiler import compile_engine
from engine_build.target.tensorrt.job import JOB, REPORT, Compiled, Failed, Phase
from runtime.errors import CalotypeError

# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Compile; 0 when a report of the outcome was sent."""
    _end_with_parent()
    reports = _own_pipe()
    job = JOB.validate_json(sys.stdin.buffer.read())

    def report(name: str, step: int, steps: int) -> bool:
        _send(reports, Phase(name, step, steps))
        return True

    started = time.monotonic()
    try:
        inputs, outputs = compile_engine(job, report)
    except CalotypeError as error:
        _send(reports, Failed(str(error)))
        return 0
    except OSError as error:
        where = error.filename or "disk"
        _send(reports, Failed(f"{job.role}: {where}: {error.strerror or error}"))
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    seconds = time.monotonic() - started
    _send(reports, Compiled(inputs, outputs, round(seconds, 1), round(peak, 2)))
    return 0


def _end_with_parent() -> None:
    """End when the parent ends, however that is: its next run would compile beside this process."""
    CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_pipe() -> TextIO:
    """Standard output for reports alone: the vendor's libraries print to it too."""
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return reports


def _send(reports: TextIO, message: Phase | Compiled | Failed) -> None:
    reports.write(REPORT.dump_json(message).decode() + "\n")
    reports.flush()


if __name__ == "__main__":
    sys.exit(main())

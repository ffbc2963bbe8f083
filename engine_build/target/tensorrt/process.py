"""Runs a compilation in a process of its own, whose memory comes back and whose crash is told.

An engine's compilation takes gigabytes that its libraries do not give back, and a fault in them
ends the process that called them.
"""

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

from engine_build.target.tensorrt.job import JOB, REPORT, Compiled, EngineJob, Failed, Phase
from runtime.errors import BuildError

_LINES = 5


CHILD = (sys.executable, "-m", "engine_build.target.tensorrt.child")


def run_job(
    job: EngineJob, progress: Callable[[Phase], object], child: Sequence[str] = CHILD
) -> Compiled:
    """Compile in a child process. Raises BuildError, and says whether the child failed or crashed.

    An exception that ends the wait for the child, such as KeyboardInterrupt, ends the child too.
    """
    with (
        tempfile.TemporaryFile() as said,
        # A session of its own: Ctrl-C in a terminal is for the parent, which ends the child.
        subprocess.Popen(
            child,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        ) as process,
    ):
        try:
            outcome = _wait(process, job, progress)
        except BaseException:
            process.kill()
            raise
        if isinstance(outcome, Compiled):
            return outcome
        if outcome is not None:
            raise BuildError(outcome.detail)
        code = process.wait()
        said.seek(0)
        raise BuildError(f"{job.role}: {job.backend} {_ending(code, said.read())}")


def _wait(
    child: "subprocess.Popen[bytes]", job: EngineJob, progress: Callable[[Phase], object]
) -> Compiled | Failed | None:
    """Hand the job over and follow it to its end; None where it ended without an outcome."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # It has ended: how, is told below.
        child.stdin.write(JOB.dump_json(job))
        child.stdin.close()
    outcome: Compiled | Failed | None = None
    for line in child.stdout:
        message = REPORT.validate_json(line)
        if isinstance(message, Phase):
            progress(message)
        else:
            outcome = message
    return outcome


def _ending(code: int, said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()[-_LINES:]
    words = f"; it last said: {' / '.join(lines)}" if lines else ""
    if code == -signal.SIGKILL:
        return (
            "was killed, most likely for want of memory; close other programs, or compile on a "
            f"machine with more{words}"
        )
    if code < 0:
        return f"crashed ({signal.Signals(-code).name}), which is a fault of its own{words}"
    return f"ended with code {code} and no outcome{words}"

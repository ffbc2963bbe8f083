"""A worker on the committed demo model in a process of its own, where a test changes its seams."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from runtime.wire.link import WorkerLink
from runtime.wire.options import DrawOptions, WorkerOptions
from runtime.wire.server_link import send_options
from tests.places import ROOT

ENGINES = ROOT / "engines"

PATIENCE = 120
"""Seconds of silence after which a test gives up."""


@contextmanager
def scripted_worker(
    script: str,
    data: Path,
    *arguments: str,
    engines: Path = ENGINES,
    model: str = "demo",
    max_batch: int | None = None,
    lease_seconds: float = 8 * PATIENCE,
    stall_seconds: float = PATIENCE,
    load_seconds: float = PATIENCE,
) -> Iterator[tuple[subprocess.Popen[bytes], WorkerLink]]:
    """Run a script that ends in `main(sys.argv[1:])` of `runtime.worker.main`, or of what is behind
    its own `arguments`; gives the process, and the server's end of its link.

    The link raises LinkError when the worker says nothing for too long. The process is gone at the
    end, whatever it was waiting for.
    """
    draw = DrawOptions("onnxruntime-cpu", max_batch, lora_bytes=0, conditioning_bytes=0)
    options = WorkerOptions(engines, model, data, lease_seconds, draw, stall_seconds, load_seconds)
    ours, theirs = socket.socketpair()
    send_options(ours, options)
    ours.settimeout(PATIENCE)
    command = [sys.executable, "-c", script, *arguments, str(theirs.fileno())]
    with (
        closing(WorkerLink(ours)) as link,
        subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()]) as worker,
    ):
        theirs.close()
        try:
            yield worker, link
        finally:
            worker.kill()

"""`python -m runtime.worker.main`: opens the model on its device and runs a worker over it.

The supervisor starts the module with one end of a socket pair, through which the options come. The
module is of no use by hand.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import NoReturn

from runtime.errors import (
    BackendError,
    CalotypeError,
    DeviceError,
    GraphError,
    PackageError,
    in_one_line,
)
from runtime.gallery import Gallery
from runtime.logs import logging_to_stderr
from runtime.telemetry import disable_telemetry
from runtime.wire.link import WorkerLink
from runtime.wire.messages import Broken, LinkError, Trial
from runtime.wire.options import WorkerOptions
from runtime.worker.loop import Worker
from runtime.worker.opening import Opener
from runtime.worker.place import take_place
from runtime.worker.pulse import Pulse
from runtime.worker.watch import Limits, Watch

EXIT_BROKEN = 1

SWITCH_SECONDS = 0.0005
"""The longest that the loop's thread, back from a step, waits for another thread to leave Python.
The default of 5 ms is as long as a step may take.
"""

logger = logging.getLogger("runtime.worker.main")  # It runs as `__main__`.


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker until SIGTERM or a lost link (returns 0), or until a failure (returns 1)."""
    disable_telemetry()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("link", type=int, help="the descriptor of the worker's end of the socket")
    sys.setswitchinterval(SWITCH_SECONDS)
    link = WorkerLink(socket.socket(fileno=parser.parse_args(argv).link))
    try:
        options = link.receive_options()
    except LinkError:
        return 0  # The server has ended before it wanted a worker.
    except ValueError as error:
        link.send(Broken(_line(error), lasting=False))
        link.close()
        return EXIT_BROKEN
    with logging_to_stderr(options.logs, "worker"):
        return _run(options, link)


def _run(options: WorkerOptions, link: WorkerLink) -> int:
    """The worker's life; returns its exit code."""
    trials = _Trials(link)
    threading.excepthook = partial(_end_with_thread, link)
    try:
        _work(options, link, trials)
    except LinkError as error:
        logger.info("%s", error)
    except _Refused as refusal:
        link.send(Broken(_line(refusal), lasting=True))
        return EXIT_BROKEN
    # The server has to learn of any failure before this process ends.
    except Exception as error:
        logger.exception("the worker has to exit")
        # A graph on trial may break the device for whichever thread asks it next.
        on_trial = isinstance(error, DeviceError) and bool(trials.roles)
        of_graph = isinstance(error, GraphError) or on_trial
        link.send(Broken(_line(error), lasting=False, of_graph=of_graph))
        return EXIT_BROKEN
    return 0


def _line(error: Exception) -> str:
    return in_one_line(error) or type(error).__name__


def _end_with_thread(link: WorkerLink, failure: threading.ExceptHookArgs) -> None:
    """End the process whose thread has ended: what that thread did would never be done again."""
    error = failure.exc_value
    logger.error("the worker has to exit", exc_info=error)
    name = failure.thread.name if failure.thread else "a thread"
    reason = _line(error) if isinstance(error, Exception) else repr(error)
    with suppress(LinkError):
        link.send(Broken(f"{name}: {reason}", lasting=False))
    leave(EXIT_BROKEN)


class _Refused(CalotypeError):
    """The model or its backend cannot be opened, and another try would fail in the same way."""


def _work(options: WorkerOptions, link: WorkerLink, trials: "_Trials") -> None:
    take_place(options.place)
    watch = Watch(Limits(options.stall_seconds, options.load_seconds))
    pulse = Pulse(link, options.lease_seconds, watch, lambda: bool(trials.roles))
    opener = Opener(options, pulse, trials, watch)
    try:
        first = opener.open(options.model)
    except DeviceError:
        raise
    except (PackageError, BackendError) as error:
        raise _Refused(str(error)) from error
    gallery = Gallery(options.data)
    if options.place.of == 1:  # Others may be writing.
        gallery.remove_unfinished()
    worker = Worker(first, opener, gallery, link, watch)

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        worker.stop()

    signal.signal(signal.SIGTERM, terminate)
    link.send(first.ready)
    worker.run()


@dataclass(frozen=True, slots=True)
class _Trials:
    """Reports the first launches of CUDA graphs to the server."""

    link: WorkerLink
    roles: list[str] = field(default_factory=list)
    """Roles whose graphs are on trial now, on whichever threads."""

    def begun(self, role: str) -> None:
        """A graph of this role is about to be launched."""
        self.roles.append(role)
        self.link.send(Trial(role, over=False))

    def over(self, role: str) -> None:
        """The graph was launched, and the process survived."""
        self.link.send(Trial(role, over=True))
        self.roles.remove(role)


def leave(code: int) -> NoReturn:
    """End this process at once, with this code.

    Threads may still run a network or wait for a device that failed: to join them may take for
    ever, and an interpreter that ends beside them may abort.
    """
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())

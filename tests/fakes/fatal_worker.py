"""A worker that is killed by SIGKILL in the midst of a stage: the one that a file names.

The environment variable FATAL_STAGE_FILE has the file's path. A kill takes the file away, so that
the next worker lives.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime import files
from runtime.draw.denoise import StepEvent
from runtime.draw.generate import Generator
from runtime.wire.messages import Completed, Message
from runtime.worker.loop import Worker
from runtime.worker.main import leave, main
from runtime.worker.reports import Reports

STAGE_FILE = "FATAL_STAGE_FILE"

Patch = Callable[[], None]


def killed_in(stage: str) -> None:
    """End this process here if its end is to come in this stage."""
    order = Path(os.environ[STAGE_FILE])
    if order.exists() and order.read_text() == stage:
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: Any, name: str, stage: str) -> None:
    """Have the process killed when a function of `owner` is called."""
    function = getattr(owner, name)

    def killed_or_called(*arguments: Any, **named: Any) -> Any:
        killed_in(stage)
        return function(*arguments, **named)

    setattr(owner, name, killed_or_called)


def _at_step(number: int, stage: str) -> None:
    stepped = Worker._stepped

    def killed_or_stepped(self: Worker, event: StepEvent) -> None:
        if event.step == number:
            killed_in(stage)
        stepped(self, event)

    Worker._stepped = killed_or_stepped  # type: ignore[method-assign]


def _while_the_picture_is_written() -> None:
    """Half of the picture is in its unfinished file."""
    write_bytes = Path.write_bytes

    def half(self: Path, content: Any) -> int:
        if self.parent.name == "images":
            write_bytes(self, bytes(content)[: len(content) // 2])
            killed_in("the picture's file")
        return write_bytes(self, content)

    Path.write_bytes = half  # type: ignore[method-assign]


def _around_the_report(stage: str, *, sent: bool) -> None:
    send = Reports._send

    def killed_or_sent(self: Reports, report: Message) -> None:
        if isinstance(report, Completed) and not sent:
            killed_in(stage)
        send(self, report)
        if isinstance(report, Completed) and sent:
            killed_in(stage)

    Reports._send = killed_or_sent  # type: ignore[method-assign]


STAGES: Mapping[str, Patch] = {
    "loading": lambda: _before(Generator, "warm_up", "loading"),
    "encoding": lambda: _before(Generator, "prepare", "encoding"),
    "the first step": lambda: _at_step(1, "the first step"),
    "a middle step": lambda: _at_step(3, "a middle step"),
    "decoding": lambda: _before(Generator, "decode", "decoding"),
    "the picture's file": _while_the_picture_is_written,
    "the file in place": lambda: _before(files, "_sync", "the file in place"),
    "between file and row": lambda: _around_the_report("between file and row", sent=False),
    "after the row": lambda: _around_the_report("after the row", sent=True),
}
"""The stages, each with what lets it be the last one. Pictures have five steps."""


if __name__ == "__main__":
    warm_up = Generator.warm_up

    def fatal_from_now_on(self: Generator) -> None:
        """As `warm_up`, which belongs to no job; every job may be the last one after it."""
        killed_in("loading")
        warm_up(self)
        for stage, patch in STAGES.items():
            if stage != "loading":
                patch()

    Generator.warm_up = fatal_from_now_on  # type: ignore[method-assign]
    leave(main(sys.argv[1:]))

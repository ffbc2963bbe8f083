"""Streams, captures and events: work that waits until somebody asks for it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fakes.cuda.codes import FakeCaptureMode

Work = Callable[[], None]


@dataclass(eq=False)
class FakeCapture:
    """Work of a stream that is recorded."""

    mode: FakeCaptureMode
    thread: int
    work: list[Work] = field(default_factory=list)
    spoilt: bool = False

    def forbids(self, thread: int) -> bool:
        """True when a thread may make no unsafe call now."""
        if self.mode is FakeCaptureMode.cudaStreamCaptureModeThreadLocal:
            return thread == self.thread
        return self.mode is FakeCaptureMode.cudaStreamCaptureModeGlobal


@dataclass(eq=False)
class FakeStream:
    """A stream, with what it was made with."""

    flags: int
    priority: int
    waiting: deque[Work] = field(default_factory=deque)
    """Work that nobody has waited for yet."""
    capture: FakeCapture | None = None
    enqueued: int = 0
    """How much was ever put on it."""


@dataclass(eq=False)
class FakeEvent:
    """A point on a stream."""

    stream: FakeStream | None = None
    done: bool = True

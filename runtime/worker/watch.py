"""The stages that a worker's threads are in, and the time that each may take.

A thread that waits for a device, a disk or a library which never answers tells nobody. So each
thread says which stage it is in before it enters the stage, and the heartbeat's thread ends the
process when a stage is overdue: the server then gives the jobs to another.
"""

import logging
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

from runtime.logs import about_job
from runtime.wire.messages import TimedStage

PATIENCE = 10
"""A stage may take so many times the longest that was seen of its kind: other jobs share its call,
other processes its cores.
"""

_TIMED: Mapping[str, TimedStage] = {
    "encoding the prompts": "encode",
    "a preview": "preview",
    "decoding": "decode",
    "saving the picture": "save",
}
"""The stages whose times the server is told, and their names there."""

MOST_TIMES = 10_000
"""Times that are kept until they are told: those of a job that takes very long."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a stage may take."""

    known: float
    """The least limit of a stage of a kind that was seen before (--stall-seconds)."""
    first: float
    """The limit of a stage of a kind that was not: graphs are captured and kernels chosen in it,
    files read, and nobody knows how fast this machine is (--load-seconds)."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage that is under way."""

    name: str
    job_id: str
    began: float
    """Seconds of the monotonic clock, which no change of the time of day moves."""
    limit: float
    setting: str
    """The setting by which the limit is raised."""

    def overdue(self, now: float) -> str:
        """The sentence of a stage that takes too long; empty while it may go on."""
        age = now - self.began
        if age <= self.limit:
            return ""
        of = f" of job {self.job_id}" if self.job_id else ""
        return (
            f"{self.name}{of} has taken {age:.0f} s where {self.limit:.0f} s are the most; "
            f"if this machine is so slow, raise {self.setting}"
        )


class Watch:
    """Stages under way on any thread of this process."""

    def __init__(self, limits: Limits) -> None:
        """No stage is under way."""
        self._limits = limits
        self._under_way: dict[object, Stage] = {}
        self._longest: dict[tuple[str, int], float] = {}
        self._ended: deque[tuple[str, float]] = deque(maxlen=MOST_TIMES)

    @contextmanager
    def stage(self, name: str, job_id: str = "", pixels: int = 0) -> Iterator[None]:
        """The calling thread is in this stage within the block. `pixels`: the number of pixels of
        the pictures that it works on; stages of some 2**n to 2**(n + 1) pixels are of one kind.
        """
        token, kind = object(), (name, pixels.bit_length())
        began = time.monotonic()
        self._under_way[token] = self._begun(kind, job_id, began)
        try:
            with about_job(job_id) if job_id else nullcontext():
                yield
                seconds = time.monotonic() - began
                if logger.isEnabledFor(logging.DEBUG):
                    logger.debug("%s has ended", name, extra={"seconds": round(seconds, 6)})
            self._longest[kind] = max(self._longest.get(kind, 0.0), seconds)
            self._ended.append((name, seconds))
        finally:
            del self._under_way[token]

    def ended(self) -> Mapping[TimedStage, Sequence[float]]:
        """The seconds of stages of single jobs that have ended since the last call."""
        times: defaultdict[TimedStage, list[float]] = defaultdict(list)
        with suppress(IndexError):  # Another thread may take the last.
            while True:
                name, seconds = self._ended.popleft()
                if name in _TIMED:
                    times[_TIMED[name]].append(round(seconds, 6))
        return times

    def overdue(self) -> str:
        """The sentence of a stage that takes too long; empty where there is none."""
        now = time.monotonic()
        sentences = (stage.overdue(now) for stage in list(self._under_way.values()))
        return next(filter(None, sentences), "")

    def _begun(self, kind: tuple[str, int], job_id: str, began: float) -> Stage:
        longest = self._longest.get(kind)
        if longest is None:
            return Stage(kind[0], job_id, began, self._limits.first, "--load-seconds")
        limit = max(self._limits.known, PATIENCE * longest)
        return Stage(kind[0], job_id, began, limit, "--stall-seconds")

"""Thousands of small jobs in a row: nothing grows, and the last is as fast as the first."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from benchmarks.processes import resident_mb
from benchmarks.serving import Server
from benchmarks.soak.accounts import broken_promises, settle
from benchmarks.soak.outcome import RESTED, SMALL_CACHES, Ground, Outcome, request

WARM = 0.1
"""Share of the jobs after which the resources are noted for the first time."""
GROWTH = 0.05
"""Share by which the memory may grow from then to the end."""
LAZY_THREADS = 8
"""Threads that may begin late: a pool begins one when tasks come together, up to its bound."""
PASSING_FILES = 4
"""Descriptors that may be open at the moment: files that are being read or written, and those of
networks for LoRAs, which are opened once the worker rests.
"""
SAMPLES = 100
"""Requests whose times are compared, at the begin and at the end."""


@dataclass(frozen=True, slots=True)
class Held:
    """Resources that a server and its worker hold."""

    memory_mb: float
    descriptors: int
    threads: int
    processes: int


def many_jobs(ground: Ground, jobs: int, rest: float = RESTED) -> Outcome:
    """Draw so many pictures of one step; compare the resources and times of begin and end.

    The memory is looked at after a `rest` of so many seconds, when the worker has given back what
    it keeps for calls to come.
    """
    with Server(ground.options(*SMALL_CACHES)) as server:
        warm = int(jobs * WARM)
        accepted: list[str] = []
        first_submission = _median(lambda: _add(server, accepted), SAMPLES)
        _draw(server, accepted, warm, ground)
        time.sleep(rest)
        before = _held(server)
        first_page = _median(lambda: server.get("/api/images"), SAMPLES)
        _draw(server, accepted, jobs - SAMPLES, ground)
        last_submission = _median(lambda: _add(server, accepted), SAMPLES)
        _draw(server, accepted, jobs, ground)
        last_page = _median(lambda: server.get("/api/images"), SAMPLES)
        time.sleep(rest)
        after = _held(server)
        faults = broken_promises(server, ground.data, settle(server, accepted))
    faults += growth_faults(before, after)
    figures: dict[str, Any] = {
        "jobs": len(accepted),
        "after": {str(warm): asdict(before), str(jobs): asdict(after)},
        "submit_ms": {"first": first_submission, "last": last_submission},
        "first_page_ms": {"first": first_page, "last": last_page},
    }
    return Outcome("many_jobs", figures, tuple(faults))


def growth_faults(before: Held, after: Held) -> list[str]:
    """Resources of which a server holds more than it may after so many jobs."""
    faults = []
    if after.memory_mb > before.memory_mb * (1 + GROWTH):
        faults.append(f"memory grew from {before.memory_mb:.0f} to {after.memory_mb:.0f} MB")
    for name, spare in ("descriptors", PASSING_FILES), ("threads", LAZY_THREADS), ("processes", 0):
        held, more = getattr(before, name), getattr(after, name)
        if more > held + spare:
            faults.append(f"{name} grew from {held} to {more}")
    return faults


def _held(server: Server) -> Held:
    process = psutil.Process(server.pid)
    family = [process, *process.children(recursive=True)]
    return Held(
        memory_mb=round(resident_mb(server.pid), 1),
        descriptors=sum(each.num_fds() for each in family),
        threads=sum(each.num_threads() for each in family),
        processes=len(family),
    )


def _add(server: Server, accepted: list[str]) -> None:
    accepted.append(server.submit(request(len(accepted), steps=1, preview_every=0)))


def _draw(server: Server, accepted: list[str], until: int, ground: Ground) -> None:
    """Go on until so many jobs were accepted and all of them have ended, a hundred at a time."""
    began = len(accepted)
    while len(accepted) < until:
        begun = len(accepted)
        while len(accepted) < min(until, begun + 100):
            _add(server, accepted)
        server.wait_ended(accepted[-1:], 1)
        ground.progress(len(accepted) - begun)
    settle(server, accepted[began:])


def _median(act: Callable[[], object], count: int) -> float:
    """The median time of so many calls, in milliseconds."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - began)
    return round(statistics.median(seconds) * 1000, 2)

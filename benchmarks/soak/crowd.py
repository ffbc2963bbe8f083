"""A thousand open streams and a few hundred submissions a second, readers that stall among them."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from benchmarks.processes import resident_mb
from benchmarks.serving import Server
from benchmarks.soak.many_jobs import GROWTH
from benchmarks.soak.outcome import RESTED, SMALL_CACHES, Ground, Outcome, request
from benchmarks.soak.wire import Connection, connected

STREAM = "/api/sse/gallery"
STALLED_SHARE = 0.05
"""Share of the streams whose reader reads nothing."""
PARSED = 50
"""Number of the streams whose every event is parsed; of the others they are counted."""
SUBMITTERS = 16
"""Connections over which jobs are submitted."""
LEAST_RATE = 0.9
"""Share of the submissions that have to be answered in time."""
WARM = 0.2
"""Length of the load before the one that is measured, as a share of that one."""
SETTLE_SECONDS = 60.0
"""Limit of the wait for a queue that has run empty."""


@dataclass(slots=True)
class _Seen:
    """Answers and events, as the clients saw them."""

    answers: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    events: int = 0
    latencies: list[float] = field(default_factory=list)


def crowd(
    ground: Ground, streams: int, rate: float, seconds: float, rest: float = RESTED
) -> Outcome:
    """Keep so many streams of the gallery open and submit so many jobs a second for so long.

    Nothing but 202 and 503 with Retry-After may be answered, every stream has to live to the end,
    and the memory afterwards, and after a `rest` of so many seconds, has to be what it was.
    """
    bound = ("--streams-per-caller", str(2 * streams))
    with Server(ground.options(*SMALL_CACHES, *bound)) as server:
        # The memory is what it is in use only after a load of the same kind.
        asyncio.run(_load(server, streams, rate, seconds * WARM, ground))
        _wait_idle(server)
        time.sleep(rest)
        before = resident_mb(server.pid)
        seen = asyncio.run(_load(server, streams, rate, seconds, ground))
        _wait_idle(server)
        time.sleep(rest)
        after = resident_mb(server.pid)
        if sum(seen.answers.values()) < LEAST_RATE * rate * seconds:
            seen.faults.append(f"less than {rate:g} submissions a second were answered")
        listed = server.metrics()["calotype_jobs_ended_total.completed"]
    seen.faults += _memory_faults(before, after)
    waits = sorted(seen.latencies)
    figures = {
        "streams": streams,
        "stalled_streams": int(streams * STALLED_SHARE),
        "submissions_a_second": round(sum(seen.answers.values()) / seconds, 1),
        "answers": {str(code): count for code, count in sorted(seen.answers.items())},
        "events": seen.events,
        "pictures": int(listed),
        "submit_ms": {"p50": _ms(waits, 0.5), "p99": _ms(waits, 0.99)},
        "memory_mb": {"before": round(before, 1), "after": round(after, 1)},
    }
    return Outcome("crowd", figures, tuple(seen.faults))


async def _load(server: Server, streams: int, rate: float, seconds: float, ground: Ground) -> _Seen:
    seen, port = _Seen(), server.client.base_url.port or 80
    stalled = int(streams * STALLED_SHARE)
    async with AsyncExitStack() as stack:
        for _ in range(stalled):
            reader = await stack.enter_async_context(connected(port))
            await reader.begin(STREAM)
        readers = [
            asyncio.create_task(_read(port, seen, parsing=number < PARSED))
            for number in range(streams - stalled)
        ]
        until = time.perf_counter() + seconds
        await asyncio.gather(
            *(_submit(port, seen, rate / SUBMITTERS, until, ground) for _ in range(SUBMITTERS))
        )
        for each in readers:
            each.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    return seen


async def _read(port: int, seen: _Seen, *, parsing: bool) -> None:
    """Follow the gallery until canceled; a stream that ends before is a fault."""
    try:
        async with connected(port) as connection:
            if parsing:
                async for _ in connection.follow(STREAM):
                    seen.events += 1
            else:
                async for count in connection.count(STREAM):
                    seen.events += count
        seen.faults.append("a stream ended")
    except (OSError, asyncio.IncompleteReadError) as error:
        seen.faults.append(f"a stream failed: {type(error).__name__}: {error}")


async def _submit(port: int, seen: _Seen, rate: float, until: float, ground: Ground) -> None:
    """Submit `rate` jobs a second; one that is due while another is on its way is sent late."""
    due = time.perf_counter()
    try:
        async with connected(port) as connection:
            while due < until and (now := time.perf_counter()) < until:
                await asyncio.sleep(max(0.0, due - now))
                await _submit_one(connection, seen)
                ground.progress(1)
                due += 1 / rate
    except (OSError, asyncio.IncompleteReadError) as error:
        seen.faults.append(f"a submission failed: {type(error).__name__}: {error}")


async def _submit_one(connection: Connection, seen: _Seen) -> None:
    began = time.perf_counter()
    number = sum(seen.answers.values())
    status, headers, answer = await connection.post("/api/generate", _small(number))
    seen.latencies.append(time.perf_counter() - began)
    seen.answers[status] += 1
    if status != 202 and not (status == 503 and "retry-after" in headers):
        seen.faults.append(f"{status}: {answer}")


def _wait_idle(server: Server) -> None:
    began = time.perf_counter()
    while server.metrics()["calotype_jobs.queued"] and time.perf_counter() - began < SETTLE_SECONDS:
        time.sleep(0.1)


def _small(number: int) -> dict[str, Any]:
    return request(number, width=64, height=64, steps=1, preview_every=0)


def _memory_faults(before: float, after: float) -> list[str]:
    if after <= before * (1 + GROWTH):
        return []
    return [f"memory grew from {before:.0f} to {after:.0f} MB"]


def _ms(ordered: list[float], share: float) -> float:
    return round(ordered[int(share * (len(ordered) - 1))] * 1000, 1) if ordered else 0.0

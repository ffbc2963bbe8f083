"""The worker is killed at random moments of its life while jobs come in."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx

from benchmarks.server_process import ServingError
from benchmarks.serving import Server
from benchmarks.soak.accounts import broken_promises, order_faults, settle
from benchmarks.soak.outcome import Ground, Outcome, request

WAITING = 12
"""Jobs that are kept in the queue, so that a worker always has work."""
LONGEST_LIFE = 3.0
"""Seconds: a worker lives for a random part of this, which covers its loading and several jobs."""


def worker_kills(ground: Ground, kills: int) -> Outcome:
    """Kill the worker so many times; then every accepted job has to end as it should.

    Jobs may use up their attempts, in which case they have to say so.
    """
    chance = random.Random(ground.seed)
    with Server(ground.options("--max-attempts", "5")) as server, _asked(server) as down:
        accepted: list[str] = []
        recoveries = []
        pid = 0
        for _ in range(kills):
            _fill(server, accepted)
            began = time.perf_counter()
            pid = _next_worker(server, pid)
            recoveries.append(time.perf_counter() - began)
            time.sleep(chance.uniform(0, LONGEST_LIFE))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            ground.progress(1)
        server.wait_ready()
        jobs = settle(server, accepted)
        faults = [*down, *broken_promises(server, ground.data, jobs), *order_faults(jobs)]
        restarts = server.get("/health")["workers"][0]["restarts"]
    figures = {
        "kills": kills,
        "restarts": restarts,
        "jobs": len(jobs),
        "by_status": _counted(job["status"] for job in jobs),
        "by_attempt": _counted(str(job["attempt"]) for job in jobs),
        "longest_without_worker_seconds": round(max(recoveries), 2),
    }
    return Outcome("worker_kills", figures, tuple(faults))


def _fill(server: Server, accepted: list[str]) -> None:
    waiting = server.metrics()["calotype_jobs.queued"]
    for _ in range(WAITING - int(waiting)):
        accepted.append(server.submit(request(len(accepted))))


def _next_worker(server: Server, killed: int) -> int:
    """The process of the worker after the one that was killed. Raises ServingError when none comes.

    Until the server has noticed a kill it names the worker that was killed.
    """
    began = time.perf_counter()
    while time.perf_counter() - began < server.patience:
        with suppress(ServingError):
            if (pid := server.worker) != killed:
                return pid
        time.sleep(0.01)
    raise ServingError(f"no worker in {server.patience:g} s")


@contextmanager
def _asked(server: Server) -> Iterator[list[str]]:
    """Ask the server for its health all the time; the list gets what was answered wrongly."""
    faults: list[str] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=10.0) as client:
            while not over.wait(0.05):
                try:
                    if (code := client.get("/health").status_code) != 200:
                        faults.append(f"/health answered {code}")
                except httpx.TransportError as error:
                    faults.append(f"/health: {type(error).__name__}: {error}")

    asking = threading.Thread(target=ask, name="health")
    asking.start()
    try:
        yield faults
    finally:
        over.set()
        asking.join()


def _counted(names: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))

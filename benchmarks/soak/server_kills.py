"""The whole server is killed at random moments while jobs come in, and started again."""

import os
import random
import signal
import threading
import time
from contextlib import suppress

import httpx

from benchmarks.server_process import ServingError
from benchmarks.serving import Server
from benchmarks.soak.accounts import broken_promises, order_faults, settle
from benchmarks.soak.outcome import Ground, Outcome, request

LONGEST_LIFE = 4.0
"""Seconds: a server lives for a random part of this, which covers its start and several jobs."""
PAUSE = 0.05
"""Seconds between two submissions."""


def server_kills(ground: Ground, kills: int) -> Outcome:
    """Kill the server so many times; then every job that was answered 202 has to be there and end.

    A submission that got no answer is sent again, with its idempotency key, to the next server.
    """
    chance = random.Random(ground.seed)
    client = _Client()
    options = ground.options("--max-attempts", "1000")
    ready = 0
    for _ in range(kills):
        server = Server(options)
        killer = threading.Timer(chance.uniform(0.2, LONGEST_LIFE), _kill, (server,))
        killer.start()
        # One that is killed before it is ready has ended, and says so.
        with suppress(ServingError, httpx.TransportError), server:
            ready += 1
            client.submit_until_killed(server, chance)
        killer.join()
        ground.progress(1)
    with Server(options) as server:
        jobs = settle(server, client.accepted)
        faults = [*client.faults, *broken_promises(server, ground.data, jobs), *order_faults(jobs)]
    figures = {
        "kills": kills,
        "of_ready_servers": ready,
        "jobs": len(jobs),
        "completed": sum(job["status"] == "completed" for job in jobs),
        "submitted_again": client.again,
    }
    return Outcome("server_kills", figures, tuple(faults))


class _Client:
    """A client that sends again what was not answered."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        self.again = 0
        """Number of jobs that were submitted once more."""
        self.faults: list[str] = []

    def submit_until_killed(self, server: Server, chance: random.Random) -> None:
        """Submit jobs until the server is gone. Raises httpx.TransportError then."""
        while True:
            self.accepted.append(self._submit(server, len(self.accepted)))
            if len(self.accepted) % 5 == 0:
                self._submit_again(server, chance.randrange(len(self.accepted)))
            time.sleep(PAUSE)

    def _submit_again(self, server: Server, number: int) -> None:
        self.again += 1
        if (job_id := self._submit(server, number)) != self.accepted[number]:
            self.faults.append(f"job {self.accepted[number]} was made twice, as {job_id}")

    def _submit(self, server: Server, number: int) -> str:
        answer = server.client.post(
            "/api/generate",
            json=request(number),
            headers={"Idempotency-Key": f"soak-{number}"},
        )
        if answer.status_code != 202:
            raise AssertionError(f"submission {number} was refused: {answer.text}")
        return str(answer.json()["job_id"])


def _kill(server: Server) -> None:
    with suppress(ProcessLookupError):
        os.kill(server.pid, signal.SIGKILL)

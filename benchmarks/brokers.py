"""Measures what a cluster's broker adds to a job, and how many submissions it takes.

    python -m benchmarks.brokers

starts a `nats-server`, a server of the demo whose jobs are in SQLite, and one whose jobs are in a
stream. Both draw the same picture in turns, from the request to the end of its job (`Prefer:
wait`). Then the brokers of some servers take submissions of many callers at once for as long as
`--seconds`, and another one that is opened afterwards has to know each job.

SQLite has each job on disk before it answers; JetStream syncs every two minutes by default, and
relies on its replicas.
"""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.frame import (
    RESULTS,
    Figure,
    Figures,
    add_turn_flags,
    benchmark_parser,
    in_turns,
    keep,
    show,
)
from benchmarks.server_process import ROOT, ServingError
from benchmarks.serving import PROMPT, Server, ServerOptions
from runtime.jobs.jetstream.broker import JetStreamBroker

LOCAL, CLUSTER = "SQLite", "JetStream"
CALLERS = 32
"""Callers of each server, each with one submission at a time."""
SERVERS = 2
MODEL = "demo"


def main() -> int:
    """Measure, print, and write the result."""
    flags = benchmark_parser(__doc__)
    add_turn_flags(flags, turns=100, warm=5)
    flags.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="of submissions; default: 60"
    )
    arguments = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder, nats_server(Path(folder) / "nats") as url:
        figures = _added(url, Path(folder), arguments.turns, arguments.warm)
        taken = asyncio.run(_take(url, Path(folder) / "pictures", arguments.seconds))
    rate = Figure("1/s", (taken / arguments.seconds,), "higher")
    figures = {**figures, f"submissions, {SERVERS} servers": rate}
    result = {"model": MODEL, "nats_servers": 1, "callers": CALLERS * SERVERS, "submitted": taken}
    keep(result, arguments.output or RESULTS / "brokers.json", figures)
    show(figures)
    return 0


@contextlib.contextmanager
def nats_server(folder: Path) -> Iterator[str]:
    """The address of a `nats-server` that runs meanwhile. Raises ServingError for none."""
    program = shutil.which("nats-server", path="/usr/sbin:/usr/local/bin:/usr/bin")
    if program is None:
        raise ServingError("nats-server is not installed: apt-get install nats-server")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [program, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _added(url: str, folder: Path, turns: int, warm: int) -> Figures:
    """Milliseconds of a picture with either broker, and the difference."""
    flags = {LOCAL: (), CLUSTER: ("--broker", url)}
    with contextlib.ExitStack() as stack:
        servers = {}
        for name, more in flags.items():
            data = folder / name
            options = ServerOptions(ROOT / "engines", MODEL, data, "onnxruntime-cpu", more)
            servers[name] = stack.enter_context(Server(options))
        ways = {name: partial(_picture, server) for name, server in servers.items()}
        seconds = in_turns(ways, turns, warm=warm)
    whole = {
        name: Figure("ms", tuple(1e3 * each for each in taken)) for name, taken in seconds.items()
    }
    return {**whole, f"{CLUSTER}: added": whole[CLUSTER].minus(whole[LOCAL])}


def _picture(server: Server, _turn: int) -> float:
    """Seconds of a picture of few steps, from the request to the answer with its end."""
    body = {"prompt": PROMPT, "seed": 1, "steps": 4, "preview_every": 0}
    began = time.perf_counter()
    answer = server.client.post("/api/generate", json=body, headers={"Prefer": "wait=60"})
    seconds = time.perf_counter() - began
    if answer.status_code != 200 or answer.json()["status"] != "completed":
        raise ServingError(f"/api/generate: {answer.text}")
    return seconds


async def _take(url: str, pictures: Path, seconds: float) -> int:
    """The number of jobs that the servers took in so many seconds. Raises ServingError where one of
    them is not known afterwards.
    """
    async with contextlib.AsyncExitStack() as stack:
        brokers = [await stack.enter_async_context(_broker(url, pictures)) for _ in range(SERVERS)]
        until = time.monotonic() + seconds
        callers = [_submit(broker, until) for broker in brokers for _ in range(CALLERS)]
        taken = [job_id for ids in await asyncio.gather(*callers) for job_id in ids]
    async with _broker(url, pictures) as later:
        known = later.counters().queued
        if known != len(taken) or len(set(taken)) != len(taken):
            raise ServingError(f"{len(taken)} jobs were taken, and {known} are there")
    return len(taken)


def _broker(url: str, pictures: Path) -> JetStreamBroker:
    return JetStreamBroker(
        url, pictures, MODEL, queue_limit=10**9, lease_seconds=30, max_attempts=3, name="rate"
    )


async def _submit(broker: JetStreamBroker, until: float) -> Sequence[str]:
    """The ids of the jobs that one caller submitted, one after the other."""
    request = {"prompt": PROMPT, "seed": 1, "priority": "interactive"}
    ids: list[str] = []
    while time.monotonic() < until:
        (job,) = await broker.submit(MODEL, [request], 4)
        ids.append(job.job_id)
    return ids


if __name__ == "__main__":
    sys.exit(main())

"""Measures a server's memory over hundreds of pictures, and checks that none is lost with a worker.

    python -m benchmarks.served_many --model sdxl --pictures 200 --size 512 --large-size 1024

submits pictures of few steps in four lots. Between the lots, while no job runs, the worker's
resident memory and its memory on the device are read. Every tenth picture has the large size.
Half-way through the third lot the worker is killed by SIGKILL: the next worker begins the
interrupted jobs again, and in the end every picture must exist.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.frame import RESULTS, benchmark_parser
from benchmarks.machine import write
from benchmarks.memory import BESIDE_PAGE_CACHE, RESIDENT, held_gb
from benchmarks.served_picture import add_server_flags
from benchmarks.serving import COMPLETED, Server, ServerOptions, request_body

LOTS = 4
KILLED_IN = 2
"""Index of the lot in which the worker is killed, from 0."""
EVERY_LARGE = 10
LEASE_SECONDS = 8
"""Length of a lease. A worker reports four times in it, each time with its device's memory."""
FRESH_SECONDS = LEASE_SECONDS / 4 + 0.5


@dataclass(frozen=True, slots=True)
class Held:
    """Memory of a worker while no job runs."""

    pictures: int
    """Number of pictures that are done."""
    worker: int
    """Process id of the worker."""
    resident_gb: float
    beside_page_cache_gb: float
    device_bytes: dict[str, int]
    """Bytes on the device by use, as the worker reports them; `free` is the whole device's."""
    device_used_mib: int | None
    """Memory of the device used by all processes, by `nvidia-smi`; None without that tool."""


def main() -> int:
    """Draw, print, and write the result; 1 when a picture is missing, 0 otherwise."""
    arguments = _parser().parse_args()
    output = arguments.output or RESULTS / f"served_many_{arguments.model}.json"
    with tempfile.TemporaryDirectory() as folder:
        options = ServerOptions(
            engines=arguments.engines.resolve(),
            model=arguments.model,
            data=arguments.data or Path(folder),
            backend=arguments.backend,
            flags=(
                *("--lease-seconds", str(LEASE_SECONDS)),
                *(("--no-cuda-graphs",) if arguments.no_cuda_graphs else ()),
            ),
            patience=arguments.patience,
        )
        with Server(options) as server:
            result = draw(server, arguments)
    write(result, output)
    _print(result)
    return 0 if result["there"] == result["pictures"] else 1


def draw(server: Server, arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw all lots on a ready server and return the result."""
    held, lots = [_held(server, 0)], []
    jobs: list[dict[str, Any]] = []
    for lot in range(LOTS):
        count = arguments.pictures // LOTS
        began = time.perf_counter()
        ids = [server.submit(_body(arguments, len(jobs) + each)) for each in range(count)]
        if lot == KILLED_IN:
            killed = _kill(server, ids)
        jobs += _ended(server, ids)
        lots.append(round(time.perf_counter() - began, 2))
        held.append(_held(server, len(jobs)))
        print(held[-1], flush=True)
    missing = [job["job_id"] for job in jobs if not _is_there(server, job)]
    return {
        "model": arguments.model,
        "pictures": len(jobs),
        "there": len(jobs) - len(missing),
        "missing": missing,
        "large": sum(job["request"]["width"] == arguments.large_size for job in jobs),
        "sizes": [arguments.size, arguments.large_size],
        "steps": arguments.steps,
        "ready_seconds": round(server.ready_seconds, 2),
        "lot_seconds": lots,
        "killed": killed,
        "begun_again": [job["job_id"] for job in jobs if job["attempt"] > 1],
        "held": [asdict(each) for each in held],
        "engine": server.get("/api/info")["engine"],
        "metrics": server.metrics(),
    }


def _body(arguments: argparse.Namespace, number: int) -> dict[str, Any]:
    large = number % EVERY_LARGE == EVERY_LARGE - 1
    size = arguments.large_size if large else arguments.size
    return request_body(size, arguments.steps, number, preview_every=1)


def _kill(server: Server, ids: Sequence[str]) -> dict[str, Any]:
    """Kill the worker once half of the jobs have ended; seconds until the next worker is ready."""
    server.wait_ended(ids, len(ids) // 2)
    worker, began = server.worker, time.perf_counter()
    os.kill(worker, signal.SIGKILL)
    server.wait_unready()
    server.wait_ready()
    return {
        "worker": worker,
        "after": len(ids) // 2,
        "next": server.worker,
        "ready_again_seconds": round(time.perf_counter() - began, 2),
    }


def _ended(server: Server, ids: Sequence[str]) -> list[dict[str, Any]]:
    return [server.wait_ended([job_id], 1)[0] for job_id in tqdm(ids, desc="pictures")]


def _held(server: Server, pictures: int) -> Held:
    time.sleep(FRESH_SECONDS)
    worker = server.worker
    name = "calotype_device_memory_bytes."
    device = {
        key.removeprefix(name): int(value)
        for key, value in server.metrics().items()
        if key.startswith(name)
    }
    return Held(
        pictures=pictures,
        worker=worker,
        resident_gb=round(held_gb(worker, RESIDENT), 3),
        beside_page_cache_gb=round(held_gb(worker, BESIDE_PAGE_CACHE), 3),
        device_bytes=device,
        device_used_mib=_device_used(),
    )


def _device_used() -> int | None:
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return int(done.stdout.split()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _is_there(server: Server, job: dict[str, Any]) -> bool:
    if job["status"] != COMPLETED:
        return False
    picture = server.client.get(job["image"]["url"])
    return picture.status_code == 200 and len(picture.content) == int(job["image"]["size_bytes"])


def _print(result: dict[str, Any]) -> None:
    for each in result["held"]:
        device = {name: f"{size / 1e6:.1f} MB" for name, size in each["device_bytes"].items()}
        print(
            f"after {each['pictures']:3} pictures: worker {each['worker']} holds "
            f"{each['resident_gb']} GB, {each['beside_page_cache_gb']} GB beside the page cache; "
            f"device {device}, {each['device_used_mib']} MiB in use"
        )
    print(
        f"{result['there']} of {result['pictures']} pictures are there; lots of "
        f"{result['lot_seconds']} s; killed: {result['killed']}; begun again: "
        f"{len(result['begun_again'])}; {result['engine']['note']}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    add_server_flags(parser)
    parser.add_argument("--pictures", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument("--steps", type=int, default=4, help="default: 4")
    parser.add_argument("--size", type=int, default=512, help="of most; default: 512")
    parser.add_argument("--large-size", type=int, default=1024, help="of some; default: 1024")
    return parser


if __name__ == "__main__":
    sys.exit(main())

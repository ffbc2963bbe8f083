"""Measures the time of a picture through a server, as a client sees it, with and without previews.

    python -m benchmarks.served_picture --model sdxl --size 1024 --steps 30 --sampler euler_a

starts `calotype serve` and times the start until the server is ready, the first picture, and two
series of pictures one after the other, the first without previews and the second with a preview at
every step. Each picture is followed over its event stream. Beside the client's times stand the
server's for the same pictures: from lease to end, and the time of a step. The entry `engine` of
/api/info is kept word for word. With `--loop N`, N more pictures are then drawn for several clients
at once, without previews and with, and pictures a second are counted. The result is written after
each series.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from benchmarks.frame import RESULTS, Figure, benchmark_parser, keep
from benchmarks.load import Load, closed
from benchmarks.memory import RESIDENT, held_gb
from benchmarks.server_process import ServingError
from benchmarks.serving import (
    COMPLETED,
    NEGATIVE,
    Followed,
    Server,
    ServerOptions,
    request_body,
)
from runtime.backends.wishes import WISHES

FIRST, PLAIN, PREVIEWED = "first", "no previews", "a preview a step"
"""Titles of the series: the very first picture, and pictures without previews and with."""
LOG_LINES = 12
"""Lines of the server's log that are shown when the server fails."""
_COUNTED = ("steps", "step_seconds", "job_seconds", "previews", "conditioning_misses")


@dataclass(frozen=True, slots=True)
class Series:
    """Pictures of like requests, drawn one after the other."""

    title: str
    count: int
    body: Mapping[str, Any]


def main() -> int:
    """Measure, print, and write the result; 1 when a picture failed, 0 otherwise."""
    arguments = _parser().parse_args()
    output = arguments.output or RESULTS / f"served_{arguments.model}.json"
    with tempfile.TemporaryDirectory() as folder:
        options = ServerOptions(
            engines=arguments.engines.resolve(),
            model=arguments.model,
            data=arguments.data or Path(folder),
            backend=arguments.backend,
            flags=("--no-cuda-graphs",) if arguments.no_cuda_graphs else (),
            patience=arguments.patience,
        )
        served = Server(options)
        try:
            with served as server:
                for result in measured(server, arguments):
                    keep(result, output, _figures(result))
        except (ServingError, httpx.HTTPError):
            print(*served.log_lines()[-LOG_LINES:], sep="\n", file=sys.stderr)
            raise
    _print(result)
    failed = [each for series in (*result["series"], *result["loops"]) for each in series["failed"]]
    for each in failed:
        print(each, file=sys.stderr)
    return 1 if failed else 0


def measured(server: Server, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Draw all series on a ready server; the result so far, after each of them."""
    at_ready = server.get("/api/info")["engine"]
    extra = {"sampler": arguments.sampler} if arguments.sampler else {}
    properties = server.get("/api/info")["parameters"]["properties"]
    if "x-refusal" not in properties.get("negative_prompt", {"x-refusal": "not there"}):
        extra["negative_prompt"] = NEGATIVE
    series = (
        Series(FIRST, 1, {**extra, "preview_every": 0}),
        Series(PLAIN, arguments.pictures, {**extra, "preview_every": 0}),
        Series(PREVIEWED, arguments.pictures, {**extra, "preview_every": 1}),
    )
    result: dict[str, Any] = {
        "model": arguments.model,
        "size": arguments.size,
        "steps": arguments.steps,
        "request": extra,
        "api_seconds": round(server.api_seconds, 2),
        "ready_seconds": round(server.ready_seconds, 2),
        "engine_at_ready": at_ready,
        "series": [],
        "loops": [],
    }
    number = 0
    for each in series:
        result["series"].append(_series(server, each, arguments, number))
        number += each.count
        yield {**result, **_state(server)}
    for every in (0, 1) if arguments.loop else ():
        bodies = [
            request_body(arguments.size, arguments.loop_steps, number + each, **extra)
            for each in range(arguments.loop)
        ]
        number += arguments.loop
        with_previews = [{**body, "preview_every": every} for body in bodies]
        loop = closed(server.ask, with_previews, arguments.clients)
        described = {"steps": arguments.loop_steps, "preview_every": every}
        result["loops"].append({**described, "clients": arguments.clients, **_of_load(loop)})
        yield {**result, **_state(server)}


def _figures(result: Mapping[str, Any]) -> dict[str, Figure]:
    found = {"ready": Figure("s", (result["ready_seconds"],))}
    for series in result["series"]:
        found[f"{series['title']}: picture"] = Figure("ms", tuple(series["client"]["each_ms"]))
    for loop in result["loops"]:
        name = f"{loop['clients']} clients, a preview every {loop['preview_every']}"
        rate = (loop["pictures_a_second"],)
        found[f"{name}: pictures a second"] = Figure("1/s", rate, "higher")
    return found


def _of_load(load: Load) -> dict[str, Any]:
    in_a_row = load.rate_in_a_row
    return {
        "pictures": len(load.outcomes),
        "failed": load.faults,
        "pictures_a_second": round(load.rate, 4),
        "in_a_row": round(in_a_row, 4) if in_a_row else None,
        "largest_wait_ms": round(1e3 * max(load.waits), 1),
    }


def _state(server: Server) -> dict[str, Any]:
    """State of the server now."""
    return {
        "engine_at_end": server.get("/api/info")["engine"],
        "worker_resident_gb": round(held_gb(server.worker, RESIDENT), 3),
        "metrics": server.metrics(),
    }


def _series(
    server: Server, series: Series, arguments: argparse.Namespace, first: int
) -> dict[str, Any]:
    before = server.metrics()
    followed, jobs = [], []
    for number in tqdm(range(first, first + series.count), desc=series.title):
        body = request_body(arguments.size, arguments.steps, number, **series.body)
        followed.append(server.draw(body))
        jobs.append(server.get(f"/api/jobs/{followed[-1].job_id}"))
    after = server.metrics()
    counted = {
        name: round(after[f"calotype_{name}_total"] - before[f"calotype_{name}_total"], 4)
        for name in _COUNTED
    }
    return {
        "title": series.title,
        "pictures": series.count,
        "client": _as_client_saw(followed),
        "server": {
            "lease_to_end_ms": _spread(
                [_between(job, "started_at", "finished_at") for job in jobs]
            ),
            "queued_ms": _spread([_between(job, "created_at", "started_at") for job in jobs]),
            "step_ms": round(1e3 * counted["step_seconds"] / max(1, counted["steps"]), 3),
            **counted,
        },
        "failed": [
            f"{job['job_id']}: {job['status']}: {job['error']}"
            for job in jobs
            if job["status"] != COMPLETED
        ],
    }


def _as_client_saw(followed: Sequence[Followed]) -> dict[str, Any]:
    gaps = [
        later - earlier
        for each in followed
        for earlier, later in zip(each.steps, each.steps[1:], strict=False)
    ]
    return {
        "picture_ms": _spread([each.seconds for each in followed]),
        "between_steps_ms": _spread(gaps),
        "first_step_ms": _spread([each.steps[0] for each in followed if each.steps]),
        "after_last_step_ms": _spread(
            [each.seconds - each.steps[-1] for each in followed if each.steps]
        ),
        "steps_seen": [len(each.steps) for each in followed],
        "previews_seen": [len(each.previews) for each in followed],
        "first_preview_ms": _spread([each.previews[0] for each in followed if each.previews]),
        "each_ms": [round(1e3 * each.seconds, 1) for each in followed],
    }


def _between(job: Mapping[str, Any], start: str, end: str) -> float:
    if not (job[start] and job[end]):
        return 0.0
    return (datetime.fromisoformat(job[end]) - datetime.fromisoformat(job[start])).total_seconds()


def _spread(seconds: Sequence[float]) -> dict[str, float] | None:
    """Smallest, median and largest, in milliseconds; None for an empty sequence."""
    if not seconds:
        return None
    found = {
        "smallest": min(seconds),
        "median": statistics.median(seconds),
        "largest": max(seconds),
    }
    return {name: round(1e3 * value, 1) for name, value in found.items()}


def _print(result: Mapping[str, Any]) -> None:
    print(f"ready after {result['ready_seconds']} s; {result['engine_at_end']['note']}")
    for series in result["series"]:
        client, server = series["client"], series["server"]
        print(
            f"{series['title']:<18} {series['pictures']:3} pictures: {client['picture_ms']} ms, "
            f"lease to end {server['lease_to_end_ms']}, step {server['step_ms']} ms, "
            f"{sum(client['previews_seen'])} previews seen"
        )
    for loop in result["loops"]:
        print(
            f"{loop['clients']} clients, {loop['steps']} steps, a preview every "
            f"{loop['preview_every']}: {loop['in_a_row']} pictures a second"
        )


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    add_server_flags(parser)
    parser.add_argument("--size", type=int, default=1024, help="of a side; default: 1024")
    parser.add_argument("--steps", type=int, default=30, help="default: 30")
    parser.add_argument("--sampler", help="default: the model's own")
    parser.add_argument(
        "--pictures", type=int, default=10, metavar="N", help="of each kind; default: 10"
    )
    parser.add_argument(
        "--loop", type=int, default=0, metavar="N", help="pictures of a closed loop; default: none"
    )
    parser.add_argument("--loop-steps", type=int, default=20, help="default: 20")
    parser.add_argument("--clients", type=int, default=4, help="of the loop; default: 4")
    return parser


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that describe the server to be measured."""
    parser.add_argument("--model", default="demo", help="a package's name; default: demo")
    parser.add_argument("--engines", type=Path, default=Path("engines"), help="default: engines")
    parser.add_argument("--backend", choices=WISHES, default="auto", help="default: auto")
    parser.add_argument("--no-cuda-graphs", action="store_true", help="as of `calotype serve`")
    parser.add_argument("--data", type=Path, help="where the server's log and pictures are kept")
    parser.add_argument(
        "--patience",
        type=float,
        default=180,
        metavar="SECONDS",
        help="limit of every wait; default: 180",
    )


if __name__ == "__main__":
    sys.exit(main())

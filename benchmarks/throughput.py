"""Measures a server under a mixed load, in turns with a plain server of diffusers' pipeline.

    python -m benchmarks.throughput --model demo --clients 4 --load 0.6 --load 0.9

sends the same requests, of mixed sizes and numbers of steps, to `calotype serve` without previews,
to the same server with a preview at every step, and to `benchmarks.plain_server`. They come from
clients that each ask for the next picture when one is done, and then at random times (Poisson):
`--load 0.6` is 0.6 of the pictures a second that the plain server made for the clients.

With `--max-batch 1` and `--max-batch 4` our server also draws the load one picture at a time, and
four together whenever there are: what its own choice between the two is held against.

The plain server is at its best: the number of PyTorch's threads and the most pictures of one call
are those that made most pictures a second when they were tried, before the turns. The servers stay
open, and one has nothing to do while another is measured.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from benchmarks.frame import (
    RESULTS,
    Figure,
    Figures,
    add_turn_flags,
    benchmark_parser,
    in_turns,
    keep,
    quantile,
    show,
)
from benchmarks.load import Ask, Body, Load, arriving, closed, poisson
from benchmarks.plain import PlainOptions, PlainServer, tried
from benchmarks.serving import Server, ServerOptions, request_body
from benchmarks.subjects import (
    Drawn,
    Subject,
    add_backends_flag,
    add_subject_flags,
    backends,
    subject,
)
from runtime.machine import usable_cores

BATCHES = (1, 2, 4)
"""Most pictures of one call that are tried with the plain server."""
PLAIN = "plain server"
CLOSED = "closed"
"""Name of the load of clients that ask for one picture after the other."""


def main() -> int:
    """Measure, print, and write the result and its chart; 1 when a picture is missing."""
    arguments = _parser().parse_args()
    arguments.backend = backends(arguments)
    drawn = subject(arguments.model, arguments.work)
    if arguments.mix:
        drawn = replace(drawn, mix=tuple(arguments.mix))
    output = arguments.output or RESULTS / f"throughput_{arguments.model}.json"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tries = _tried(drawn, arguments, folder)
        best, best_rate = max(tries.items(), key=lambda each: each[1])
        servers = _served(drawn, arguments.backend, arguments.max_batch, folder, stack)
        plain = stack.enter_context(PlainServer(best, folder / "plain.log"))
        rates = {CLOSED: 0.0}
        rates |= {f"Poisson {share:g}": share * best_rate for share in arguments.load}
        taken = {
            load: in_turns(
                _contestants(drawn, arguments, rate, servers, plain),
                arguments.turns,
                warm=arguments.warm,
            )
            for load, rate in rates.items()
        }
        engines = {name: each.get("/api/info")["engine"] for name, each in servers.items()}
    figures, faults = figures_of(taken), _faults(taken)
    result = {
        "model": arguments.model,
        "mix": [asdict(each) for each in drawn.mix],
        "pictures_a_turn": arguments.pictures,
        "clients": arguments.clients,
        "arrivals_a_second": {name: round(rate, 4) for name, rate in rates.items() if rate},
        "engines": engines,
        "plain_server_tried": [
            {"threads": each.threads, "batch": each.batch, "pictures_a_second": round(rate, 4)}
            for each, rate in tries.items()
        ],
        "faults": faults,
    }
    title = f"{arguments.model}: mixed load, {arguments.pictures} pictures a turn"
    keep(result, output, figures, title=title, panels=_panels(figures))
    show(figures)
    for name, found in faults.items():
        print(f"{name}: {found}", file=sys.stderr)
    return 1 if faults else 0


def _tried(
    drawn: Subject, arguments: argparse.Namespace, folder: Path
) -> dict[PlainOptions, float]:
    """Pictures a second that the plain server made for the clients, by its options."""
    first = PlainOptions(drawn.source, 1, warm_size=drawn.picture.size)
    threads = (
        [arguments.plain_threads] if arguments.plain_threads else sorted({1, len(usable_cores())})
    )
    batches = [arguments.plain_batch] if arguments.plain_batch else BATCHES
    bodies = bodies_of(drawn, arguments.pictures, turn=0, previews=False)

    def rate(options: PlainOptions) -> float:
        with PlainServer(options, folder / "plain.log") as server:
            return closed(server.ask, bodies, arguments.clients).rate

    return tried(first, threads, batches, rate)


def _served(
    drawn: Subject,
    backends: Sequence[str],
    batches: Sequence[int],
    folder: Path,
    stack: ExitStack,
) -> dict[str, Server]:
    """Our servers by name: batches as the policy has them, then of a fixed size each."""
    flags = {backend: (backend, ()) for backend in backends} | {
        f"{backend}, --max-batch {most}": (backend, ("--max-batch", str(most)))
        for backend in backends
        for most in batches
    }
    return {
        name: stack.enter_context(
            Server(ServerOptions(drawn.engines, drawn.name, folder / name, backend, given))
        )
        for name, (backend, given) in flags.items()
    }


def _contestants(
    drawn: Subject,
    arguments: argparse.Namespace,
    rate: float,
    servers: Mapping[str, Server],
    plain: PlainServer,
) -> dict[str, Callable[[int], Load]]:
    """One turn of each server by its name; a rate of 0 for clients that wait for their pictures."""

    def loaded(ask: Ask, turn: int, *, previews: bool = False) -> Load:
        bodies = bodies_of(drawn, arguments.pictures, turn, previews=previews)
        if not rate:
            return closed(ask, bodies, arguments.clients)
        return arriving(ask, bodies, list(poisson(len(bodies), rate, seed=turn)))

    found: dict[str, Callable[[int], Load]] = {}
    for name, server in servers.items():
        found[name] = partial(loaded, server.ask)
        if name in arguments.backend:
            found[f"{name}, previews"] = partial(loaded, server.ask, previews=True)
    return {**found, PLAIN: partial(loaded, plain.ask)}


def bodies_of(drawn: Subject, count: int, turn: int, *, previews: bool) -> list[Body]:
    """Requests of a turn: the same mix for all, prompts of one's own with previews and without."""
    chance = random.Random(turn)
    bodies: list[Body] = []
    for place in range(count):
        picture = chance.choice(drawn.mix)
        number = turn * count + place
        body = request_body(
            picture.size,
            picture.steps,
            number,
            sampler="euler",
            cfg_scale=drawn.guidance,
            preview_every=int(previews),
        )
        bodies.append({**body, "prompt": f"{body['prompt']}{', shown' * previews}"})
    return bodies


Taken = Mapping[str, Mapping[str, Sequence[Load]]]
"""Loads of each turn, by the kind of load and the server."""


def figures_of(taken: Taken) -> dict[str, Figure]:
    """Figures of each server under each load, and ours held to the plain server turn by turn."""
    found: dict[str, Figure] = {}
    for load, by_name in taken.items():
        for name, turns in by_name.items():
            found |= _of_server(f"{name}, {load}", turns)
        plain = by_name[PLAIN]
        for name, turns in by_name.items():
            for title, measure in _MEASURES.items() if name != PLAIN else ():
                ours, theirs = (
                    Figure("s", tuple(measure(each.waits) for each in those))
                    for those in (turns, plain)
                )
                found[f"{name} / {PLAIN}, {load}: {title}"] = ours.over(theirs)
    return found


def _faults(taken: Taken) -> dict[str, list[str]]:
    """Reasons of missing pictures by server and load, where pictures are missing."""
    return {
        f"{name}, {load}": found
        for load, by_name in taken.items()
        for name, turns in by_name.items()
        if (found := [fault for each in turns for fault in each.faults])
    }


_MEASURES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": fmean,
    "p95": partial(quantile, share=0.95),
}


def _of_server(name: str, turns: Sequence[Load]) -> dict[str, Figure]:
    """Waits of all turns together; pictures a second of each turn."""
    outcomes = [outcome for each in turns for outcome in each.outcomes]
    shown = [each.first_preview for each in outcomes if each.first_preview is not None]
    found = {
        f"{name}: wait": Figure("s", tuple(each.wait for each in outcomes)),
        f"{name}: pictures a second": Figure("1/s", tuple(each.rate for each in turns), "higher"),
    }
    return found | ({f"{name}: first preview": Figure("s", tuple(shown))} if shown else {})


def _panels(figures: Figures) -> dict[str, Figures]:
    def those(ending: str) -> dict[str, Figure]:
        return {
            name.removesuffix(ending): each
            for name, each in figures.items()
            if name.endswith(ending)
        }

    return {
        "Wait for a picture, s (median; the line from 5 to 95 %)": those(": wait"),
        "Wait for the first preview, s": those(": first preview"),
        "Pictures a second": those(": pictures a second"),
        "Ratios of the same turn": {
            name: each for name, each in figures.items() if each.unit == "ratio"
        },
    }


def _pictures(text: str) -> list[Drawn]:
    pairs = (each.split(":") for each in text.split(","))
    return [Drawn(int(size), int(steps)) for size, steps in pairs]


def _parser() -> argparse.ArgumentParser:
    flags = benchmark_parser(__doc__)
    add_subject_flags(flags)
    add_turn_flags(flags, turns=3, warm=1)
    add_backends_flag(flags)
    flags.add_argument(
        "--pictures", type=int, default=30, metavar="N", help="of a turn; default: 30"
    )
    flags.add_argument(
        "--mix",
        type=_pictures,
        metavar="SIZE:STEPS,...",
        help="pictures of the load, each as likely as the others; default: the model's own",
    )
    flags.add_argument("--clients", type=int, default=4, metavar="N", help="default: 4")
    flags.add_argument(
        "--load",
        type=float,
        action="append",
        default=[],
        metavar="SHARE",
        help="of the plain server's rate, at random times; may be given several times",
    )
    flags.add_argument(
        "--max-batch",
        type=int,
        action="append",
        default=[],
        metavar="N",
        help="also our server with this flag of its own: as many pictures at once as there are, up "
        "to N; may be given several times",
    )
    flags.add_argument("--plain-threads", type=int, metavar="N", help="default: the best, tried")
    flags.add_argument("--plain-batch", type=int, metavar="N", help="default: the best, tried")
    return flags


if __name__ == "__main__":
    sys.exit(main())

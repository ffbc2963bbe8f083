"""Measures the switching of a worker between two models, by the time to a picture's first step.

    python -m benchmarks.models

starts two servers of the demo and another model: one has memory for one model at a time, the other
for both. Each draws in turns: a picture of the other model, one more of it, a picture of the demo,
one more. The first of each two waits for its model where only one fits; what the second takes less
is the switching. Pictures are small and have few steps, and each has a prompt of its own.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.frame import (
    RESULTS,
    Figure,
    add_turn_flags,
    benchmark_parser,
    in_turns,
    keep,
    show,
)
from benchmarks.server_process import ServingError
from benchmarks.serving import COMPLETED, Server, ServerOptions, request_body
from benchmarks.subjects import DEFAULT_WORK, subject
from runtime.backends.rows import CPU

DEMO = "demo"
OTHER = "sdxl-33m"
SERVERS: Mapping[str, tuple[str, ...]] = {
    "one at a time": ("--model-memory-mb", "1"),
    "both loaded": (),
}
SIZE, STEPS = 128, 4
WAYS = ("switched to", "again")

Found = dict[str, float]
"""Seconds to the first step, by the model and the way."""


def main() -> int:
    """Measure, print, and write the result."""
    arguments = _parser().parse_args()
    engines = arguments.engines or subject(OTHER, arguments.work).engines
    names = (arguments.other, DEMO)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        contestants: dict[str, Callable[[int], Found]] = {}
        for title, flags in SERVERS.items():
            data = Path(folder) / title.replace(" ", "_")
            options = ServerOptions(engines, ",".join(reversed(names)), data, CPU, flags)
            server = running.enter_context(Server(options))
            contestants[title] = partial(_round, server, names)
        taken = in_turns(contestants, arguments.turns, warm=arguments.warm)
    figures = _figures(taken, names)
    result = {"models": list(names), "size": SIZE, "steps": STEPS}
    keep(result, arguments.output or RESULTS / "models.json", figures)
    show(figures)
    return 0


def _round(server: Server, names: Sequence[str], turn: int) -> Found:
    return {
        f"{name} {way}": _first_step(server, name, 2 * turn + number)
        for name in names
        for number, way in enumerate(WAYS)
    }


def _first_step(server: Server, model: str, number: int) -> float:
    """Seconds from a submission to the event of its first step. Raises ServingError."""
    followed = server.draw(request_body(SIZE, STEPS, number, model=model))
    if followed.status != COMPLETED:
        raise ServingError(f"{followed.job_id}: {followed.status}")
    return followed.previews[0]


def _figures(taken: Mapping[str, Sequence[Found]], names: Sequence[str]) -> dict[str, Figure]:
    found = {
        f"{title}: {what}": Figure("s", tuple(turn[what] for turn in turns))
        for title, turns in taken.items()
        for what in turns[0]
    }
    for name in names:
        switched, again = (found[f"one at a time: {name} {way}"] for way in WAYS)
        found[f"switching to {name}"] = switched.minus(again)
    return found


def _parser() -> argparse.ArgumentParser:
    flags = benchmark_parser(__doc__)
    flags.add_argument("--other", default=OTHER, help=f"the other model; default: {OTHER}")
    flags.add_argument(
        "--engines", type=Path, metavar="FOLDER", help="has it; default: it is made in --work"
    )
    flags.add_argument("--work", type=Path, default=DEFAULT_WORK, metavar="FOLDER")
    add_turn_flags(flags, turns=10)
    return flags


if __name__ == "__main__":
    sys.exit(main())

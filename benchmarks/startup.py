"""Measures a server's start in turns with a plain server of diffusers' pipeline.

    python -m benchmarks.startup --model demo

starts `calotype serve` and `benchmarks.plain_server` one after the other, again and again, each in
a process of its own. Timed from the start of the process: the first answer, readiness, and the
first picture. Memory is that of the server and its worker together, what they share counted once
(PSS), when the server is ready and when the first picture is done. Processor time until readiness
is that of all these processes: on a machine that others use too, it is the cost of the start
itself. Beside that, the imports of each process alone, over a Python that imports nothing.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
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
from benchmarks.load import Ask
from benchmarks.plain import PlainOptions, PlainServer
from benchmarks.processes import processor_seconds, resident_mb
from benchmarks.server_process import ServerProcess, ServingError, child_environment
from benchmarks.serving import Server, ServerOptions, request_body
from benchmarks.subjects import Subject, add_backends_flag, add_subject_flags, backends, subject

PLAIN = "plain server"
IMPORTS = {
    "server": "import api.commands.serve, api.serving, api.http_server",
    "worker": "import runtime.worker.main",
    PLAIN: "import benchmarks.plain_server",
}
"""Imports of each kind of process."""

Found = dict[str, float]
"""Figures of one start by name; their units stand in `UNITS`."""

UNITS = {
    "first answer": "s",
    "ready": "s",
    "first picture": "s",
    "processor time until ready": "s",
    "memory when ready": "MB",
    "memory after a picture": "MB",
    "imports": "s",
}


def main() -> int:
    """Measure, print, and write the result and its chart."""
    arguments = _parser().parse_args()
    drawn = subject(arguments.model, arguments.work)
    output = arguments.output or RESULTS / f"startup_{arguments.model}.json"
    with tempfile.TemporaryDirectory() as folder:
        contestants = _contestants(drawn, backends(arguments), Path(folder))
        taken = in_turns(contestants, arguments.turns, warm=arguments.warm)
    figures = _figures(taken)
    size, steps = drawn.picture.size, drawn.picture.steps
    result = {"model": arguments.model, "size": size, "steps": steps}
    title = f"{arguments.model}: from the start of the process"
    keep(result, output, figures, title=title, panels=_panels(figures))
    show(figures)
    return 0


def _contestants(
    drawn: Subject, backends: Sequence[str], folder: Path
) -> dict[str, Callable[[int], Found]]:
    numbers = count()

    def ours(backend: str) -> Server:
        data = folder / f"{backend}-{next(numbers)}"
        return Server(ServerOptions(drawn.engines, drawn.name, data, backend))

    def plain() -> PlainServer:
        options = PlainOptions(drawn.source, threads=1, warm_size=drawn.picture.size)
        return PlainServer(options, folder / "plain.log")

    def started_ours(backend: str, turn: int) -> Found:
        server = ours(backend)
        return _started(server, server.ask, drawn, turn)

    def started_plain(turn: int) -> Found:
        server = plain()
        return _started(server, server.ask, drawn, turn)

    found: dict[str, Callable[[int], Found]] = {
        backend: partial(started_ours, backend) for backend in backends
    }
    found[PLAIN] = started_plain
    return found | {
        f"imports of {name}": partial(_imported, code) for name, code in IMPORTS.items()
    }


def _started(server: ServerProcess, ask: Ask, drawn: Subject, turn: int) -> Found:
    """Start a server, draw one picture and stop it. Raises ServingError without a picture."""
    body = request_body(
        drawn.picture.size, drawn.picture.steps, turn, sampler="euler", cfg_scale=drawn.guidance
    )
    began = time.perf_counter()
    with server:
        worked, memory = processor_seconds(server.pid), resident_mb(server.pid)
        seen = ask({**body, "preview_every": 0})
        picture = time.perf_counter() - began
        if seen.fault:
            raise ServingError(seen.fault)
        return {
            "first answer": server.api_seconds,
            "ready": server.ready_seconds,
            "first picture": picture,
            "processor time until ready": worked,
            "memory when ready": memory,
            "memory after a picture": resident_mb(server.pid),
        }


def _imported(code: str, _turn: int) -> Found:
    """Seconds of a process that imports, over those of one that does not."""
    return {"imports": _python(code) - _python("pass")}


def _python(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environment())
    return time.perf_counter() - began


def _figures(taken: Mapping[str, Sequence[Found]]) -> dict[str, Figure]:
    found = {}
    for name, turns in taken.items():
        for quantity in turns[0]:
            title = name if quantity == "imports" else f"{name}: {quantity}"
            found[title] = Figure(UNITS[quantity], tuple(each[quantity] for each in turns))
    return found


def _panels(figures: Figures) -> dict[str, Figures]:
    return {
        title: {name: each for name, each in figures.items() if each.unit == unit}
        for title, unit in (
            ("Seconds (median; the line from 5 to 95 %)", "s"),
            ("Memory of all processes, MB (PSS)", "MB"),
        )
    }


def _parser() -> argparse.ArgumentParser:
    flags = benchmark_parser(__doc__)
    add_subject_flags(flags)
    add_turn_flags(flags, turns=5)
    add_backends_flag(flags)
    return flags


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks.soak`: every soak whole, a bar for each, and the outcome as JSON.

    python -m benchmarks.soak [--only NAME ...] [--share 1.0] [--seed N] [--write FILE]

`--share` makes every soak shorter by that factor. Exits with 1 when a promise was broken.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from benchmarks.machine import write
from benchmarks.soak.crowd import crowd
from benchmarks.soak.many_jobs import many_jobs
from benchmarks.soak.outcome import Ground, Outcome
from benchmarks.soak.server_kills import server_kills
from benchmarks.soak.worker_kills import worker_kills

ROOT = Path(__file__).parents[2]
Soak = Callable[[Ground, float], Outcome]
SECONDS, RATE, STREAMS = 60.0, 200.0, 1000

SOAKS: dict[str, tuple[Soak, int]] = {
    "worker_kills": (lambda ground, share: worker_kills(ground, int(100 * share)), 100),
    "server_kills": (lambda ground, share: server_kills(ground, int(50 * share)), 50),
    "crowd": (
        lambda ground, share: crowd(ground, int(STREAMS * share), RATE, SECONDS * share),
        int(RATE * SECONDS),
    ),
    "many_jobs": (lambda ground, share: many_jobs(ground, int(5000 * share)), 5000),
}
"""Each soak, and the number of its rounds when it is whole."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soaks that are asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=SOAKS, default=[])
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args(arguments)
    found = {}
    for name in options.only or SOAKS:
        began = time.perf_counter()
        outcome = _run(name, options.share, options.seed)
        found[name] = {**asdict(outcome), "seconds": round(time.perf_counter() - began)}
        if options.write:
            write({"share": options.share, "seed": options.seed, "soaks": found}, options.write)
        print(f"{name}: {'; '.join(outcome.faults[:5]) or 'kept'}: {dict(outcome.figures)}")
    return int(any(each["faults"] for each in found.values()))


def _run(name: str, share: float, seed: int) -> Outcome:
    soak, rounds = SOAKS[name]
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=int(rounds * share), desc=name) as bar,
    ):
        ground = Ground(ROOT / "engines", "demo", Path(folder), seed, bar.update)
        return soak(ground, share)


if __name__ == "__main__":
    raise SystemExit(main())

"""Runs all that waits for a GPU, on a machine that is lent for minutes.

    python -m benchmarks.gpu.visit --work FOLDER --results FOLDER --seconds 560

The GPU check comes first and alone, since some of its tests measure the device's memory. Behind it
the packages are compiled and verified side by side. Then the parts of `benchmarks.gpu` run one
after the other, those that say most first, and hundreds of pictures with a worker killed among
them. Every piece of work has a limit, and its log and result lie in `--results` as soon as it ends.
The same command goes on behind what ran: so a visit may take several calls, and what failed may be
mended in between and runs again.

The packages are those of `benchmarks.published_package`, made beforehand with `--hollow` and
carried to the same FOLDER; `--fill` writes their weights first.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path

from benchmarks.gpu.families import FAMILIES
from benchmarks.gpu.parts import FAILED, RAN, ROOT, end
from benchmarks.random_weights import fill_hollow

VISIT = "visit.json"
LAST_LINES = 3
SHORTEST = 10.0
"""Seconds of the limit without which no work begins."""

# Each family's parts, those first that no other figure can stand for.
_PARTS = (
    ("sdxl", "pictures", 90),
    ("zimage", "pictures", 70),
    ("flux-dev", "pictures", 90),
    ("sdxl", "served", 110),
    ("sdxl", "loras", 160),
    ("chroma", "pictures", 100),
    ("flux-schnell", "pictures", 60),
    ("zimage", "served", 60),
    ("flux-dev", "served", 90),
    ("sdxl", "plain", 40),
    ("sdxl", "diffusers", 60),
    ("chroma", "served", 120),
    ("flux-schnell", "served", 60),
)
_MANY = ("--model", "sdxl", "--size", "1024", "--steps", "4", "--patience", "60")


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of work: a module of Python with arguments, in a process of its own."""

    name: str
    most: float
    """Limit in seconds."""
    command: tuple[str, ...]
    part: tuple[Path, str] | None = None
    """Result of `benchmarks.gpu` and the part of it that this work measures: the code of that
    command is of all parts in the result."""

    def outcome(self, code: int | None) -> str:
        """`RAN` or `FAILED`, by the exit code or by the part's own outcome."""
        if self.part is None or code is None:
            return RAN if code == 0 else FAILED
        path, name = self.part
        parts = json.loads(path.read_text())["parts"] if path.is_file() else {}
        return RAN if parts.get(name, {}).get("outcome") == RAN else FAILED


@dataclass(frozen=True, slots=True)
class Done:
    """How a piece of work ended."""

    name: str
    outcome: str
    """`RAN` or `FAILED`."""
    seconds: float
    code: int | None
    """Exit code; None for work that was ended at its limit."""


def stages(families: Sequence[str], work: Path, results: Path) -> Iterator[tuple[Work, ...]]:
    """All work in order; the pieces of one stage run side by side."""
    yield (_check(results),)
    yield tuple(_package(name, work, results) for name in families)
    for family, part, most in _PARTS:
        if family in families:
            output = results / f"gpu_{family}.json"
            given = (family, "--work", str(work), "--only", part, "--output", str(output))
            command = ("benchmarks.gpu", *given, "--seconds", str(most))
            yield (Work(f"{part}_{family}", most + 5, command, (output, part)),)
    if "sdxl" in families:
        many = str(results / "served_many_sdxl.json")
        engines = ("--engines", str(work / "engines"), "--output", many)
        yield (Work("served_many", 90, ("benchmarks.served_many", *_MANY, *engines)),)


def _check(results: Path) -> Work:
    found = str(results / "gpu_check.json")
    return Work("gpu_check", 230, ("scripts.gpu_check", "--seconds", "210", "--write", found))


def _package(name: str, work: Path, results: Path) -> Work:
    given = (name, "--work", str(work), "--output", str(results / f"package_{name}.json"))
    in_place = () if FAMILIES[name].loras else ("--in-place",)
    return Work(f"package_{name}", 230, ("benchmarks.published_package", *given, *in_place))


def visit(staged: Iterable[tuple[Work, ...]], results: Path, seconds: float) -> list[Done]:
    """Run what did not run yet for at most so many seconds; how all work ended until now."""
    ended = time.monotonic() + seconds
    known = _known(results / VISIT)
    for stage in staged:
        waiting = [each for each in stage if known.get(each.name, "") != RAN]
        left = ended - time.monotonic()
        if not waiting or left < SHORTEST:
            continue
        with ThreadPoolExecutor(len(waiting)) as pool:
            for done in pool.map(_run, waiting, repeat(results), repeat(left)):
                _keep(done, results)
    return _read(results / VISIT)


def _run(work: Work, results: Path, left: float) -> Done:
    """Run one piece of work, its output in a log; its end is shown."""
    began = time.monotonic()
    log = results / f"{work.name}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", *work.command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code: int | None
        try:
            code = process.wait(min(work.most, left))
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end(process)
    took = time.monotonic() - began
    done = Done(work.name, work.outcome(code), round(took, 1), code)
    last = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    print(f"{done.name}: {done.outcome} ({code}), {done.seconds} s", *last, sep="\n  ", flush=True)
    return done


def _keep(done: Done, results: Path) -> None:
    others = [each for each in _read(results / VISIT) if each.name != done.name]
    content = [asdict(each) for each in (*others, done)]
    (results / VISIT).write_text(json.dumps(content, indent=1) + "\n")


def _known(path: Path) -> dict[str, str]:
    return {each.name: each.outcome for each in _read(path)}


def _read(path: Path) -> list[Done]:
    return [Done(**each) for each in json.loads(path.read_text())] if path.is_file() else []


def main() -> int:
    """Run the visit, print how each piece of work ended; 1 when one of them failed."""
    arguments = _parser().parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    if arguments.fill:
        for name in arguments.families:
            fill_hollow(arguments.work / "sources" / name)
            fill_hollow(arguments.work / "engines" / name)
    staged = stages(arguments.families, arguments.work, arguments.results)
    wanted = [
        tuple(each for each in stage if not arguments.only or each.name in arguments.only)
        for stage in staged
    ]
    ended = visit(wanted, arguments.results, arguments.seconds)
    for done in ended:
        print(f"{done.seconds:7.1f} s  {done.outcome:<6}  {done.name}")
    return int(any(done.outcome == FAILED for done in ended))


def _names(text: str) -> list[str]:
    return text.split(",")


def _families(text: str) -> list[str]:
    names = _names(text)
    if unknown := {*names} - {*FAMILIES}:
        known = ", ".join(FAMILIES)
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: expected some of {known}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.visit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="of packages")
    parser.add_argument("--results", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seconds", type=float, default=560, help="for all; default: 560")
    parser.add_argument(
        "--families",
        type=_families,
        default=["sdxl", "zimage", "flux-dev"],
        metavar="NAME,...",
        help="default: sdxl,zimage,flux-dev",
    )
    parser.add_argument(
        "--only", type=_names, default=[], metavar="NAME,...", help="of visit.json; default: all"
    )
    parser.add_argument("--fill", action="store_true", help="write the packages' weights first")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Measures all of a family on this machine's GPU in one run, and holds the figures to their aims.

    python -m benchmarks.gpu sdxl --work FOLDER
    python -m benchmarks.gpu sdxl --work FOLDER --only loras,diffusers --before before.json

Parts, each in a process of its own and bounded in time: a package of published size with random
weights (`published_package`); our server over HTTP (`served_picture`); pictures in process with and
without CUDA graphs, with previews and without, and their kernels (`kernels`); LoRAs
(`lora_pictures`); diffusers on the same weights (`diffusers_pictures`). The result is written after
each part. A part that fails is recorded with its reason, and with all it had found, and the others
go on. `--only` measures some parts and keeps the others as the result has them, so that a run may
be done in several calls.

`--needs` says beforehand what a run needs: time, room on disk and on the device.
`benchmarks.gpu.visit` runs several families' parts, and the check of the GPU, in one bounded time.

`--rehearsal` goes through all parts on the CPU with small pictures of the tests' tiny model. With
`--engines` and `--model` a package that is there is measured.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.families import FAMILIES, Family
from benchmarks.gpu.figures import figures
from benchmarks.gpu.parts import FAILED, Outcome, Part, Place, parts_of, run
from benchmarks.gpu.table import needed, printed, verdicts
from benchmarks.machine import stamped, write
from benchmarks.published_package import BACKEND
from runtime.backends.rows import CPU
from runtime.backends.wishes import WISHES

RESULTS = Path(__file__).resolve().parents[1] / "results"
REHEARSED_GPU = "sm_90"
"""GPU for which a rehearsal compiles its target."""


def main() -> int:
    """Measure, print the tables, and write the result; 1 when a part failed, 0 otherwise."""
    arguments = _parser().parse_args()
    # A run that is terminated ends as an interrupted one does, and its part with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    family = FAMILIES[arguments.family]
    if arguments.rehearsal:
        family = family.rehearsed()
    name = f"gpu_{arguments.family}{'_rehearsal' * arguments.rehearsal}.json"
    output = arguments.output or RESULTS / name
    parts = [*parts_of(family, _place(family, arguments), _making(family, arguments))]
    if unknown := {*arguments.only} - {part.name for part in parts}:
        known = ", ".join(part.name for part in parts)
        raise SystemExit(f"--only {', '.join(sorted(unknown))}: no such part; there are {known}")
    wanted = [part for part in parts if not arguments.only or part.name in arguments.only]
    print(needed(family, wanted))
    if arguments.needs:
        return 0
    result = _begun(arguments, output if arguments.only else None)
    arguments.work.mkdir(parents=True, exist_ok=True)
    ended = time.monotonic() + arguments.seconds
    for number, part in enumerate(wanted, start=1):
        print(f"[{number}/{len(wanted)}] {part.name}", flush=True)
        outcome = _run(part, arguments.work, ended - time.monotonic())
        print(f"    {outcome.outcome} {outcome.reason}", flush=True)
        result["parts"][part.name] = outcome.as_json()
        _write(result, family, output)
    print(printed(stamped(result)))
    print(output)
    return int(any(part["outcome"] == FAILED for part in result["parts"].values()))


def _place(family: Family, arguments: argparse.Namespace) -> Place:
    work: Path = arguments.work
    return Place(
        engines=(arguments.engines or work / "engines").resolve(),
        model=arguments.model or family.model,
        backend=arguments.backend or (CPU if arguments.rehearsal else BACKEND),
        source=work / "sources" / family.model,
    )


def _making(family: Family, arguments: argparse.Namespace) -> Sequence[str] | None:
    """Arguments for the making of the package; None where a package is given."""
    if arguments.engines:
        return None
    wanted = [family.model, "--work", str(arguments.work), "--size", str(family.size)]
    if not family.loras:
        wanted.append("--in-place")
    if arguments.rehearsal:
        wanted += ["--tiny", "--gpu", REHEARSED_GPU]
    return wanted


def _begun(arguments: argparse.Namespace, earlier: Path | None) -> dict[str, Any]:
    """The result to add to: empty, or with `--only` that of an earlier call."""
    result: dict[str, Any] = {"parts": {}}
    if earlier and earlier.is_file():
        result = json.loads(earlier.read_text())
    result["family"] = arguments.family
    result["rehearsal"] = arguments.rehearsal
    result["backend"] = arguments.backend or (CPU if arguments.rehearsal else BACKEND)
    if arguments.before:
        result["before"] = _figures_of(arguments.before)
    return result


def _figures_of(path: Path) -> Mapping[str, float]:
    try:
        found: Mapping[str, float] = json.loads(path.read_text())["figures"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(
            f"--before {path}: {error!r}; expected a result that this command wrote"
        ) from None
    return found


def _run(part: Part, folder: Path, left: float) -> Outcome:
    if part.command and left <= 0:
        return Outcome(FAILED, "no time was left: see --seconds", 0.0, None)
    return run(part, folder, min(part.seconds, left))


def _write(result: dict[str, Any], family: Family, output: Path) -> None:
    found = figures({name: part["result"] for name, part in result["parts"].items()})
    result["figures"] = found
    result["aims"] = verdicts(family.aims, found)
    write(result, output)


def _absolute(text: str) -> Path:
    return Path(text).resolve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument(
        "--work",
        type=_absolute,
        default=Path(tempfile.gettempdir()) / "calotype-gpu",
        metavar="FOLDER",
        help="where checkpoint, package and the parts' results lie; default: %(default)s",
    )
    parser.add_argument("--engines", type=Path, metavar="DIR", help="of a package that is there")
    parser.add_argument("--model", help="its name; default: the family's")
    parser.add_argument("--backend", choices=WISHES, help=f"default: {BACKEND}")
    parser.add_argument("--needs", action="store_true", help="say what a run needs, and end")
    parser.add_argument("--rehearsal", action="store_true", help="all parts, small, on the CPU")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=[],
        metavar="PART,...",
        help="measure these parts; the others stay as the result has them",
    )
    parser.add_argument(
        "--seconds", type=float, default=1800, metavar="N", help="limit of all parts; default: 1800"
    )
    parser.add_argument(
        "--before", type=Path, metavar="FILE", help="an earlier result, beside this"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: in results/")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Compares two results of a benchmark: the figures that became faster or slower, and the noise.

    python -m benchmarks.latency --output before.json
    ... a change ...
    python -m benchmarks.latency --output after.json
    python -m benchmarks.compare before.json after.json

The change of a figure is that of its median. Beside it stands its noise: the interval in which 95 %
of the changes lie that are found when the values of both results are drawn anew (bootstrap). A
figure has changed where that interval lies on one side of zero, and is further from zero than
`--least`. Fewer than five values on a side say nothing about noise.

Two results were measured at two times, perhaps on a machine with other work: ratios of contestants
that took turns are what to look at first.
"""

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.frame import quantile

ENOUGH = 5
"""Values on a side from which their noise can be told."""
DRAWS = 2000
CONFIDENCE = 0.95
_SAME_MACHINE = ("processor", "cores", "memory_gb", "gpu")


class Verdict(StrEnum):
    """Judgement of a figure's change."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "within noise"
    UNKNOWN = "noise unknown"


@dataclass(frozen=True, slots=True)
class Change:
    """Change of one figure from one result to the other."""

    name: str
    unit: str
    before: float
    after: float
    noise: tuple[float, float] | None
    """Relative changes between which 95 % lie; None where there are too few values."""
    verdict: Verdict

    @property
    def relative(self) -> float | None:
        """Change of the median relative to what it was; None from zero."""
        return self.after / self.before - 1 if self.before else None

    def __str__(self) -> str:
        """Line of the table, without the name."""
        change = "" if self.relative is None else f"{self.relative:+8.1%}"
        noise = "" if self.noise is None else f"[{self.noise[0]:+.1%}, {self.noise[1]:+.1%}]"
        return (
            f"{self.before:>10.4g} {self.after:>10.4g} {self.unit:<5} "
            f"{change:>8} {noise:<20} {self.verdict}"
        )


def compared(before: Mapping[str, Any], after: Mapping[str, Any], least: float) -> list[Change]:
    """Changes of the figures that both results have, in the order of the first."""
    return [
        change_of(name, read_figure(entry), read_figure(after["figures"][name]), least)
        for name, entry in before["figures"].items()
        if name in after["figures"]
    ]


@dataclass(frozen=True, slots=True)
class Measured:
    """Figure as a result holds it."""

    values: tuple[float, ...]
    unit: str = ""
    better: str = "lower"


def read_figure(entry: Any) -> Measured:
    """Figure from an entry of `figures`, which may be a bare number."""
    if isinstance(entry, int | float):
        return Measured((float(entry),))
    return Measured(tuple(entry["values"]), entry["unit"], entry["better"])


def change_of(name: str, before: Measured, after: Measured, least: float) -> Change:
    """Change of one figure; `least` is the smallest relative change that counts."""
    noise = _noise(before.values, after.values)
    medians = median(before.values), median(after.values)
    return Change(name, after.unit, *medians, noise, _verdict(noise, after.better, least))


def _verdict(noise: tuple[float, float] | None, better: str, least: float) -> Verdict:
    if noise is None:
        return Verdict.UNKNOWN
    low, high = noise
    if low <= least and high >= -least:
        return Verdict.SAME
    return Verdict.BETTER if (high < 0) is (better == "lower") else Verdict.WORSE


def _noise(before: Sequence[float], after: Sequence[float]) -> tuple[float, float] | None:
    """Interval of relative changes between medians of values that are drawn with replacement."""
    if min(len(before), len(after)) < ENOUGH or min(before) <= 0:
        return None
    chance = random.Random(0)
    changes = [
        median(chance.choices(after, k=len(after))) / median(chance.choices(before, k=len(before)))
        - 1
        for _ in range(DRAWS)
    ]
    outside = (1 - CONFIDENCE) / 2
    return quantile(changes, outside), quantile(changes, 1 - outside)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Sentences about what else differs between two results: machine, load and versions."""
    one, other = before.get("machine", {}), after.get("machine", {})
    found = [
        f"another machine: {fact} was {one.get(fact)}, is {other.get(fact)}"
        for fact in _SAME_MACHINE
        if one.get(fact) != other.get(fact)
    ]
    was, now = one.get("versions", {}), other.get("versions", {})
    found += [
        f"{name} was {was.get(name)}, is {now.get(name)}"
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]
    if before.get("load_average") and after.get("load_average"):
        found.append(f"load: {before['load_average']} before, {after['load_average']} after")
    return found


def main() -> int:
    """Print the changes; with `--strict`, 1 where a figure became worse."""
    arguments = _parser().parse_args()
    before, after = (json.loads(path.read_text()) for path in (arguments.before, arguments.after))
    for path, result in ((arguments.before, before), (arguments.after, after)):
        if "figures" not in result:
            raise SystemExit(f"{path}: no `figures`; expected a result of a benchmark in turns")
    changes = [
        each
        for each in compared(before, after, arguments.least / 100)
        if arguments.only in each.name and (arguments.all or each.verdict is not Verdict.SAME)
    ]
    for sentence in differences(before, after):
        print(sentence)
    width = max((len(each.name) for each in changes), default=0)
    for each in changes:
        print(f"{each.name:<{width}} {each}")
    missing = sorted(set(before["figures"]) ^ set(after["figures"]))
    if missing:
        print(f"in one of the two alone: {', '.join(missing)}")
    worse = sum(each.verdict is Verdict.WORSE for each in changes)
    better = sum(each.verdict is Verdict.BETTER for each in changes)
    print(f"{better} better, {worse} worse, of {len(before['figures'])} figures")
    return 1 if arguments.strict and worse else 0


def _parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("before", type=Path, metavar="BEFORE.json")
    flags.add_argument("after", type=Path, metavar="AFTER.json")
    flags.add_argument("--only", default="", metavar="TEXT", help="figures with this in their name")
    flags.add_argument("--all", action="store_true", help="also those within noise")
    flags.add_argument(
        "--least", type=float, default=1.0, metavar="%", help="that counts; default: 1 %%"
    )
    flags.add_argument("--strict", action="store_true", help="end with 1 where a figure is worse")
    return flags


if __name__ == "__main__":
    sys.exit(main())

"""Frame of a benchmark: figures with all of their values, measured in turns, and a result's files.

A benchmark is a module that `python -m benchmarks.NAME` runs. `benchmark_parser` has the flags that
all have. `in_turns` measures contestants in paired turns, A B A B, so that a machine that slows
down slows all of them; `Figure.over` and `Figure.minus` then compare two of them turn by turn.
`keep` writes a result, as JSON with the machine's facts, and its chart beside that. What stands in
a result's `figures` can be compared with another result's: `python -m benchmarks.compare`.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal, TypeVar

from tqdm import tqdm

from benchmarks.chart import Bar, Panel, bars_as_svg
from benchmarks.machine import write

RESULTS = Path(__file__).parent / "results"

Better = Literal["lower", "higher"]
TakenT = TypeVar("TakenT")


@dataclass(frozen=True, slots=True)
class Figure:
    """Values of one measured quantity, in the order in which they were measured."""

    unit: str
    values: tuple[float, ...]
    """At least one."""
    better: Better = "lower"

    @property
    def median(self) -> float:
        """Median of the values."""
        return median(self.values)

    def over(self, other: "Figure") -> "Figure":
        """Ratios of this figure's values to the other one's of the same turns."""
        pairs = zip(self.values, other.values, strict=True)
        return Figure("ratio", tuple(mine / theirs for mine, theirs in pairs), self.better)

    def minus(self, other: "Figure") -> "Figure":
        """Differences of this figure's values from the other one's of the same turns."""
        pairs = zip(self.values, other.values, strict=True)
        return Figure(self.unit, tuple(mine - theirs for mine, theirs in pairs), self.better)

    def to_json(self) -> dict[str, Any]:
        """Unit, spread and values for a result's entry `figures`."""
        return {
            "unit": self.unit,
            "better": self.better,
            "mean": _short(fmean(self.values)),
            "p50": _short(self.median),
            **{f"p{share}": _short(quantile(self.values, share / 100)) for share in (95, 99)},
            "smallest": _short(min(self.values)),
            "largest": _short(max(self.values)),
            "values": [_short(value) for value in self.values],
        }

    def __str__(self) -> str:
        """Median and 95th percentile for a line of output."""
        p95 = quantile(self.values, 0.95)
        return f"p50 {_short(self.median):g}, p95 {_short(p95):g} {self.unit}"


Figures = Mapping[str, Figure]
"""Figures by a name that says what was measured: the contestant first, then the quantity."""


def quantile(values: Sequence[float], share: float) -> float:
    """Value below which a share of the values lies, linear between two neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def in_turns(
    contestants: Mapping[str, Callable[[int], TakenT]], turns: int, *, warm: int = 1
) -> dict[str, list[TakenT]]:
    """Call every contestant once a turn, in order, with the turn's number; the results by name.

    The results of the first `warm` turns are dropped. Numbers go on over all turns.
    """
    taken: dict[str, list[TakenT]] = {name: [] for name in contestants}
    with tqdm(total=(warm + turns) * len(contestants), unit="run", disable=None) as bar:
        for turn in range(warm + turns):
            for name, run in contestants.items():
                bar.set_description(name)
                found = run(turn)
                if turn >= warm:
                    taken[name].append(found)
                bar.update()
    return taken


def benchmark_parser(description: str | None) -> argparse.ArgumentParser:
    """Parser with the flags of every benchmark; the description is the module's docstring."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument(
        "--output", type=Path, metavar="FILE", help="the result; default: in benchmarks/results/"
    )
    return found


def add_turn_flags(flags: argparse.ArgumentParser, turns: int, warm: int = 1) -> None:
    """Add the flags of a benchmark that measures in turns."""
    flags.add_argument(
        "--turns", type=int, default=turns, metavar="N", help=f"that count; default: {turns}"
    )
    flags.add_argument(
        "--warm", type=int, default=warm, metavar="N", help=f"before those; default: {warm}"
    )


def keep(
    result: Mapping[str, Any],
    output: Path,
    figures: Figures,
    *,
    title: str = "",
    panels: Mapping[str, Figures] | None = None,
) -> None:
    """Write a result with its figures; with `panels`, charts by their titles, an SVG beside it."""
    entries = {name: figure.to_json() for name, figure in figures.items()}
    write({**result, "figures": entries}, output)
    if panels:
        output.with_suffix(".svg").write_text(bars_as_svg(title, _drawn(panels)))


def show(figures: Figures) -> None:
    """Print a line for each figure."""
    width = max(map(len, figures), default=0)
    for name, figure in figures.items():
        print(f"{name:<{width}}  {figure}", flush=True)


def _drawn(panels: Mapping[str, Figures]) -> list[Panel]:
    return [
        Panel(
            title,
            tuple(
                Bar(
                    name,
                    figure.median,
                    (quantile(figure.values, 0.05), quantile(figure.values, 0.95)),
                    figure.unit,
                )
                for name, figure in figures.items()
            ),
        )
        for title, figures in panels.items()
    ]


def _short(value: float) -> float:
    """A value with six significant digits."""
    return float(f"{value:.6g}")

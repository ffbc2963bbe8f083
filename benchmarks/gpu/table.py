"""Tables of a run: each aim with its figure, and every figure beside that of an earlier run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.gpu.families import Aim, Family
from benchmarks.gpu.parts import Part

MET, MISSED, UNKNOWN = "met", "missed", "not measured"


def verdicts(aims: Iterable[Aim], found: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each aim with its figure and whether the aim is met, missed or not measured."""
    rows = []
    for aim in aims:
        value = found.get(aim.figure)
        outcome = UNKNOWN if value is None else MET if aim.met(value) else MISSED
        sign = "over" if aim.at_least else "under"
        rows.append(
            {"figure": aim.figure, "aim": f"{sign} {aim.limit:g}", "value": value, "is": outcome}
        )
    return rows


def changes(
    found: Mapping[str, float], before: Mapping[str, float]
) -> list[tuple[str, float | None, float | None, float | None]]:
    """Each figure before and now, and now relative to before; None where a figure is missing.

    Shares have no ratio: a share of a share says nothing.
    """
    rows = []
    for name in dict.fromkeys([*found, *before]):
        old, new = before.get(name), found.get(name)
        ratio = None
        if old and new is not None and not name.endswith("share"):
            ratio = new / old
        rows.append((name, old, new, ratio))
    return rows


def needed(family: Family, parts: Sequence[Part]) -> str:
    """Room and time that a run needs: estimates, but for the parts' limits."""
    times = {part.name: (part.about, part.seconds) for part in parts if part.command}
    times["all"] = (
        sum(about for about, _ in times.values()),
        sum(most for _, most in times.values()),
    )
    rows = [(name, f"{about:.0f}", f"{most:.0f}") for name, (about, most) in times.items()]
    copies = 2 if family.loras else 1
    room = f"{copies * family.weights_gb:.0f} GB on disk, as much memory for their files"
    title = f"{family.model}: {family.weights_gb:g} GB of weights, made on the machine: {room}"
    return "\n".join([title, "", *_table(("part", "about, s", "at most, s"), rows), ""])


def printed(content: Mapping[str, Any]) -> str:
    """The result of a run as Markdown."""
    machine = content["machine"]
    versions = " ".join(f"{name} {version}" for name, version in machine["versions"].items())
    title = f"{content['family']} on {machine['gpu'] or 'no GPU'}, {content['backend']}"
    lines = [
        *(["REHEARSAL: small pictures of a small model"] if content["rehearsal"] else []),
        f"{title}; Python {machine['python']}, {versions}",
        "",
        *_table(
            ("part", "outcome", "seconds", "reason"),
            (
                (name, part["outcome"], f"{part['seconds']:.1f}", part["reason"])
                for name, part in content["parts"].items()
            ),
        ),
        "",
        *_table(
            ("aim", "limit", "figure", "is"),
            (
                (row["figure"], row["aim"], _number(row["value"]), row["is"])
                for row in content["aims"]
            ),
        ),
        "",
        *_table(
            ("figure", "before", "now", "now / before"),
            (
                (name, *map(_number, numbers))
                for name, *numbers in changes(content["figures"], content.get("before", {}))
            ),
        ),
        *_kernels(content["parts"]),
    ]
    return "\n".join(lines)


def _kernels(parts: Mapping[str, Any]) -> list[str]:
    """Kernels of a step by kind, of the first part that was profiled."""
    for name in ("pictures", "plain"):
        profiled = ((parts.get(name) or {}).get("result") or {}).get("profiled") or {}
        if kinds := profiled.get("kinds"):
            rows = ((row["what"], f"{row['ms']:.3f}", f"{row['launches']:.1f}") for row in kinds)
            return ["", *_table(("kernels of a step", "ms", "launches"), rows)]
    return []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"

"""Tables of a run: each aim with its figure, and every figure beside that of an earlier run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.gpu.families import Aim

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

"""Panels of times by load, one for each scenario, as an SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_COLOURS = ("#59a14f", "#e15759", "#4e79a7")
_COLUMNS, _WIDTH, _HEIGHT, _MARGIN, _TOP = 3, 300, 200, 44, 50


def panels(points: Sequence[Mapping[str, Any]], policies: Sequence[str]) -> str:
    """Mean (full line) and p95 (dashes) in seconds, on a logarithmic scale, by load."""
    names = list(dict.fromkeys(each["scenario"] for each in points))
    rows = math.ceil(len(names) / _COLUMNS)
    width, height = _COLUMNS * _WIDTH, _TOP + rows * _HEIGHT
    body = [
        line
        for place, name in enumerate(names)
        for line in _panel(place, [each for each in points if each["scenario"] == name], policies)
    ]
    legend = [
        f'<text x="{10 + 190 * index}" y="40" fill="{colour}">{escape(policy)}</text>'
        for index, (policy, colour) in enumerate(zip(policies, _COLOURS, strict=True))
    ]
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                'font-family="sans-serif" font-size="11">'
            ),
            '<rect width="100%" height="100%" fill="white"/>',
            (
                '<text x="10" y="20" font-size="14">Simulated seconds from arrival to end by load: '
                "mean (full line) and p95 (dashes)</text>"
            ),
            *legend,
            *body,
            "</svg>\n",
        ]
    )


def _panel(place: int, points: Sequence[Mapping[str, Any]], policies: Sequence[str]) -> list[str]:
    left = place % _COLUMNS * _WIDTH + _MARGIN
    bottom = _TOP + (place // _COLUMNS + 1) * _HEIGHT - 28
    wide, high = _WIDTH - _MARGIN - 12, _HEIGHT - 56
    found = [each["seconds"][policy] for each in points for policy in policies]
    low = math.log(min(figures["mean"] for figures in found))
    top = math.log(max(figures["p95"] for figures in found))
    scale = high / ((top - low) or 1.0)
    loads = [each["load"] for each in points]
    lines = [
        f'<text x="{left}" y="{bottom - high - 8}">{escape(points[0]["scenario"])}</text>',
        (
            f'<rect x="{left}" y="{bottom - high}" width="{wide}" height="{high}" fill="none" '
            'stroke="#cccccc"/>'
        ),
        *_labels(left, bottom, (wide, high), (low, top)),
    ]
    for policy, colour in zip(policies, _COLOURS, strict=True):
        for figure, dashes in (("mean", "none"), ("p95", "4 3")):
            path = " ".join(
                f"{left + load * wide:.1f},"
                f"{bottom - (math.log(each['seconds'][policy][figure]) - low) * scale:.1f}"
                for load, each in zip(loads, points, strict=True)
            )
            lines.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" '
                f'stroke-width="1.5" stroke-dasharray="{dashes}"/>'
            )
    return lines


def _labels(
    left: int, bottom: int, extents: tuple[int, int], ends: tuple[float, float]
) -> list[str]:
    wide, high = extents
    lines = [
        f'<text x="{left + load * wide:.1f}" y="{bottom + 14}" text-anchor="middle">{load}</text>'
        for load in (0, 0.5, 1)
    ]
    for end, y in zip(ends, (bottom, bottom - high + 8), strict=True):
        lines.append(f'<text x="{left - 4}" y="{y}" text-anchor="end">{math.exp(end):.3g}</text>')
    return lines

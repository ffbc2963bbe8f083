"""Stacked bars of stages' milliseconds by kind of kernel, as an SVG."""

from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.roofline.call import NECESSARY
from benchmarks.roofline.stages import Stage

_COLOURS = (
    "#4e79a7", "#59a14f", "#9c755f", "#f28e2b", "#e15759", "#76b7b2", "#edc948", "#b07aa1",
    "#ff9da7", "#bab0ac", "#86bcb6", "#d37295", "#8cd17d", "#b6992d", "#499894", "#79706e",
    "#1f1f1f", "#d7b5a6", "#5f3a73", "#0b6623",
)  # fmt: skip
_FONT = 'font-family="sans-serif" font-size="12"'
Bar = tuple[str, Mapping[str, float]]
"""A bar's name, and its milliseconds by kind."""

_LEFT, _WIDTH, _BAR, _STEP, _TOP = 190, 620, 22, 30, 40


def stage_bars(title: str, gpu: str, stages: Sequence[Stage]) -> str:
    """One bar a stage, and the last stage's bound as a bar of its own."""
    bars = [
        (each.name, {row.kind: row.ms for row in each.predictions[gpu].rows}) for each in stages
    ]
    bars.append(("bound", {kind: bars[-1][1].get(kind, 0.0) for kind in NECESSARY}))
    return stacked_bars(title, bars)


def stacked_bars(title: str, bars: Sequence[Bar]) -> str:
    """Bars of milliseconds by kind, one below the other."""
    kinds = list(dict.fromkeys([*NECESSARY, *(kind for _, parts in bars for kind in parts)]))
    colours = dict(zip(kinds, _COLOURS * (1 + len(kinds) // len(_COLOURS)), strict=False))
    scale = _WIDTH / max(sum(parts.values()) for _, parts in bars)
    body = [
        line
        for place, (name, parts) in enumerate(bars)
        for line in _bar(_TOP + place * _STEP, name, parts, colours, scale)
    ]
    legend_top = _TOP + len(bars) * _STEP + 10
    body += _legend(legend_top, kinds, colours)
    height = legend_top + 20 * (1 + (len(kinds) - 1) // 4) + 10
    width = _LEFT + _WIDTH + 80
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {_FONT}>',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="10" y="22" font-size="14">{escape(title)}</text>',
            *body,
            "</svg>\n",
        ]
    )


def _bar(
    top: int, name: str, parts: Mapping[str, float], colours: dict[str, str], scale: float
) -> list[str]:
    lines = [f'<text x="{_LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>']
    left = float(_LEFT)
    for kind, colour in colours.items():
        width = parts.get(kind, 0.0) * scale
        if width:
            lines.append(
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}" '
                f'fill="{colour}"><title>{escape(kind)}: {parts[kind]:.2f} ms</title></rect>'
            )
        left += width
    lines.append(f'<text x="{left + 6:.1f}" y="{top + 15}">{sum(parts.values()):.1f} ms</text>')
    return lines


def _legend(top: int, kinds: Sequence[str], colours: dict[str, str]) -> list[str]:
    lines = []
    for place, kind in enumerate(kinds):
        x, y = 10 + place % 4 * 215, top + place // 4 * 20
        lines.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colours[kind]}"/>')
        lines.append(f'<text x="{x + 18}" y="{y + 11}">{escape(kind)}</text>')
    return lines

"""Bars with their spread as an SVG, in panels that each have a scale of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#bab0ac")
_FONT = 'font-family="sans-serif" font-size="12"'
_LEFT, _WIDTH, _RIGHT = 330, 460, 110
_BAR, _STEP, _HEAD, _TOP = 16, 24, 30, 34


@dataclass(frozen=True, slots=True)
class Bar:
    """Bar as long as its value, with a line over its spread."""

    label: str
    value: float
    spread: tuple[float, float]
    unit: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of one unit, drawn to one scale."""

    title: str
    bars: tuple[Bar, ...]


def bars_as_svg(title: str, panels: Sequence[Panel]) -> str:
    """The panels, one below the other."""
    body, top = [], _TOP
    for panel in panels:
        body.append(f'<text x="10" y="{top + 18}" font-weight="bold">{escape(panel.title)}</text>')
        top += _HEAD
        largest = max((max(bar.value, bar.spread[1]) for bar in panel.bars), default=0.0)
        scale = _WIDTH / largest if largest > 0 else 0.0
        for place, bar in enumerate(panel.bars):
            body += _bar(top, bar, scale, _COLOURS[place % len(_COLOURS)])
            top += _STEP
    width, height = _LEFT + _WIDTH + _RIGHT, top + 12
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {_FONT}>',
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="10" y="22" font-size="14">{escape(title)}</text>',
            *body,
            "</svg>\n",
        ]
    )


def _bar(top: int, bar: Bar, scale: float, colour: str) -> list[str]:
    middle = top + _BAR / 2
    low, high = (_LEFT + max(0.0, value) * scale for value in bar.spread)
    end = _LEFT + max(0.0, bar.value) * scale
    spread = f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {top + 4}v8M{high:.1f} {top + 4}v8"
    return [
        f'<text x="{_LEFT - 8}" y="{top + 13}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect x="{_LEFT}" y="{top}" width="{end - _LEFT:.1f}" height="{_BAR}" fill="{colour}"/>',
        f'<path d="{spread}" stroke="#333" fill="none"/>',
        f'<text x="{max(end, high) + 6:.1f}" y="{top + 13}">{bar.value:.4g} {bar.unit}</text>',
    ]

"""Bounds of one caller, as the settings state them and `api.callers` holds them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallerBounds:
    """Bounds of one caller."""

    pictures_a_minute: int | None = None
    """A key may have a rate of its own; None: no bound."""
    streams: int = 256
    forwarded: bool = False
    """True where a proxy in front states the caller's address (X-Forwarded-For)."""

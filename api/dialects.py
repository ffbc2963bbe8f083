"""APIs of other servers that this one speaks beside its own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialects:
    """Dialects that are on, and how they treat callers."""

    openai: bool = True
    a1111: bool = True
    cancel_on_disconnect: bool = False
    """True where a caller that hangs up before its answer takes its jobs with it."""

"""Outcome of a soak, and the options that every soak gets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving import ServerOptions
from runtime.worker.loop import REST_SECONDS

SMALL_CACHES = ("--prompt-memory-mb", "8")
"""Flags of a server whose memory is compared: conditionings of recent prompts, which each request
adds to, fill this bound within a few hundred requests.
"""


RESTED = REST_SECONDS + 5
"""Seconds after which a worker without a job has given back what it keeps for calls to come."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of one soak, and the promises that were broken."""

    name: str
    figures: Mapping[str, Any]
    faults: tuple[str, ...]
    """A sentence each; empty where every promise was kept."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Subject of a soak."""

    engines: Path
    model: str
    data: Path
    """Data folder, new for each soak."""
    seed: int = 0
    """Of the moments that are chosen at random."""
    progress: Callable[[int], object] = lambda _: None
    """Called with the number of rounds that were done since the call before."""

    def options(self, *flags: str) -> ServerOptions:
        """Options of a server with these flags."""
        return ServerOptions(self.engines, self.model, self.data, "onnxruntime-cpu", flags, 120.0)


def request(number: int, **fields: Any) -> dict[str, Any]:
    """Request for the picture of this number: a small one of the demo's."""
    return {
        "prompt": f"a red apple, number {number}",
        "width": 128,
        "height": 128,
        "steps": 4,
        "seed": number,
        **fields,
    }

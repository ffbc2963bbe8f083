"""The times of the denoising loop: of the denoiser's calls, and outside of these."""

import math
from collections import Counter, deque
from collections.abc import Callable
from time import perf_counter

MOST_TIMES = 10_000
"""Times of single calls that are kept until they are told, the latest: nobody may ask for them."""


class Pace:
    """Sums since the last `restart`; for the loop's thread."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        """Before the first call; `clock` gives seconds."""
        self._clock = clock
        self._began = self._returned = clock()
        self._resting = True
        self._wanted_at = math.inf
        self.restart()

    def restart(self) -> None:
        """Begin the sums anew."""
        self.calls = 0
        """The calls that followed another one with no rest between the two."""
        self.host_seconds = 0.0
        """The time from the return of a call to the begin of the next, over `calls`."""
        self.starts = 0
        """The calls that ended a rest."""
        self.idle_seconds = 0.0
        """The parts of these rests in which a picture was wanted."""
        self.lora_changes = 0
        """The changes of the LoRA set."""
        self.lora_seconds = 0.0
        """The time that these took."""
        self.batches: Counter[int] = Counter()
        """Numbers of calls by the samples in them."""
        self.call_seconds: deque[float] = deque(maxlen=MOST_TIMES)
        """The times of single calls."""

    def loras_changed(self, seconds: float) -> None:
        """The LoRA set was changed."""
        self.lora_changes += 1
        self.lora_seconds += seconds

    def call_begins(self, samples: int) -> None:
        """The denoiser is about to be called for so many samples."""
        self.batches[samples] += 1
        self._began = now = self._clock()
        if self._resting:
            self.starts += 1
            self.idle_seconds += max(0.0, now - max(self._returned, self._wanted_at))
            self._resting = False
        else:
            self.calls += 1
            self.host_seconds += now - self._returned

    def call_returned(self) -> None:
        """The call of the denoiser has returned."""
        self._returned = now = self._clock()
        self.call_seconds.append(now - self._began)

    def rests(self) -> None:
        """No picture is there to be drawn."""
        self._resting, self._wanted_at = True, math.inf

    def wanted(self, at: float) -> None:
        """A picture that ends the rest was asked for at this time of the clock; the first of
        several counts.
        """
        if self._resting:
            self._wanted_at = min(self._wanted_at, at)

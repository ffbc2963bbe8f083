"""The memory that the calls of a model's networks may take together.

A call's need is told before it is made (`runtime.plan.call_room`, `runtime.draw.decode_room`), and
the call waits until there is room beside the others. The first large call of each network is
measured, and the estimates of its later ones are corrected by what it took.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from runtime.machine import resident_bytes, restart_peak

SHARE = 0.8
"""The part of the memory that is available at the start which calls may take."""
LARGE = 64 * 2**20
"""Bytes. Smaller calls are made without asking: they would be of no matter to any machine."""
PATIENCE = 10.0
"""The longest wait for memory that other programs have, in seconds; Linux may give it back yet."""
LOOK_AGAIN = 0.5
"""Seconds between two looks at memory that other programs have."""
LEAST_CORRECTION, MOST_CORRECTION = 0.5, 4.0

logger = logging.getLogger(__name__)

Free = Callable[[], int | None]
"""The bytes that are free now; None where that is not known."""


@dataclass(slots=True)
class _User:
    """The facts of one network's calls that are known so far."""

    correction: float = 1.0
    """The memory that a large call took, over its estimate."""
    measured: bool = False
    kept: int = 0
    """The bytes of its largest call, which its library keeps for the next."""
    most: int | None = None
    """More than this could not be had, by the corrected estimate; None where nothing lacked."""


class Room:
    """The room for calls. Threads may share it; none may ask twice at once."""

    def __init__(self, free: Free, most: int | None = None, *, on_device: bool = False) -> None:
        """`most` is the memory that calls may take; None: SHARE of what is free now.

        On a device, vendors' libraries set memory aside for calls to come: what is free bounds
        nothing, and calls are made smaller once memory lacked.
        """
        self._free = free
        self._on_device = on_device
        now = None if on_device else free()
        self.most = most if most is not None or now is None else int(SHARE * now)
        """None where nothing is known."""
        self._used = 0
        self._begun = 0
        """The large calls that have begun so far."""
        self._users: dict[str, _User] = {}
        self._changed = threading.Condition()

    def free(self) -> int | None:
        """The bytes that a call may take now; None where nothing is known."""
        bounds = [each for each in (self.most, self._free()) if each is not None]
        return min(bounds, default=None)

    def fitting(self, user: str, wanted: int) -> float:
        """How many calls that want so much, by the estimate, would fit together into one."""
        known = self._user(user)
        corrected = wanted * known.correction
        bounds = [each for each in (self.most, known.most) if each is not None]
        return min(bounds) / corrected if bounds and corrected else float("inf")

    def taken(self, user: str, wanted: int) -> AbstractContextManager[None]:
        """Hold room for a call of a network, named by its role: wait until there is some, behind
        other calls as long as these last, and up to PATIENCE for what other programs have.
        """
        known = self._user(user)
        needed = int(wanted * known.correction)
        # Every step of a small picture comes by here.
        return nullcontext() if needed < LARGE else self._held(user, known, wanted, needed)

    @contextmanager
    def _held(self, user: str, known: _User, wanted: int, needed: int) -> Iterator[None]:
        with self._changed:
            self._wait(known, needed)
            alone = not self._used
            self._used += needed
            self._begun = begun = self._begun + 1
        before = self._began(known) if alone else None
        try:
            yield
        finally:
            with self._changed:
                # Another call that began meanwhile would be measured with it.
                if before is not None and self._begun == begun:
                    self._learn(user, known, wanted, before)
                self._used -= needed
                known.kept = max(known.kept, needed)
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold all room for a call that found no memory: other large calls end before, and begin
        behind it.
        """
        all_room = max(self.most or 0, LARGE)
        with self._changed:
            self._changed.wait_for(lambda: not self._used)
            self._used += all_room
        try:
            yield
        finally:
            with self._changed:
                self._used -= all_room
                self._changed.notify_all()

    def lacked(self, user: str, wanted: int, words: str) -> None:
        """A call that wants so much, by the estimate, found no memory; `words` are the error's."""
        known = self._user(user)
        known.most = int(wanted * known.correction) - 1
        logger.warning("%s: calls take less than %d MB from now on: %s", user, wanted >> 20, words)

    def keeps_too_much(self, user: str, usual: int) -> bool:
        """True where a network's library keeps more than usual calls take, or the libraries of all
        networks together more than calls may take.
        """
        with self._changed:
            kept = self._user(user).kept
            together = sum(each.kept for each in self._users.values())
        crowded = self.most is not None and together > self.most
        return kept > usual * self._user(user).correction or (kept > 0 and crowded)

    def outgrows(self, user: str, wanted: int) -> bool:
        """True where a call finds less kept than it takes: a library would have both then, since
        what it keeps is in pieces too small for such a call.
        """
        known = self._user(user)
        return 0 < known.kept < int(wanted * known.correction)

    def given_back(self, user: str) -> None:
        """A network's library has given back what it kept."""
        with self._changed:
            self._user(user).kept = 0
            self._changed.notify_all()

    def _user(self, user: str) -> _User:
        return self._users.setdefault(user, _User())

    def _wait(self, known: _User, needed: int) -> None:
        self._changed.wait_for(lambda: not self._used or self._fits(needed))
        # Alone, but other programs may have more of the memory than at the start.
        waits = PATIENCE
        while waits > 0 and not self._used and not self._is_free(needed - known.kept):
            self._changed.wait(LOOK_AGAIN)
            waits -= LOOK_AGAIN
        if waits <= 0:
            logger.warning("a call that takes %d MB is made with less free", needed >> 20)

    def _fits(self, needed: int) -> bool:
        return self.most is None or self._used + needed <= self.most

    def _is_free(self, missing: int) -> bool:
        free = self._free() if missing > 0 and not self._on_device else None
        return free is None or missing <= free

    def _began(self, known: _User) -> int | None:
        """The memory before a call that is to be measured; None for one that is not."""
        if known.measured or known.kept or self._on_device or not restart_peak():
            return None
        return resident_bytes()

    def _learn(self, user: str, known: _User, wanted: int, before: int) -> None:
        peak = resident_bytes(peak=True)
        if peak is None:
            return
        found = (peak - before) / wanted
        known.correction = min(max(found, LEAST_CORRECTION), MOST_CORRECTION)
        known.measured = True
        logger.info("%s: a call took %.2f of the memory that was estimated", user, found)

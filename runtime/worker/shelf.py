"""The models that a worker has loaded, each held by the jobs that want it."""

import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from runtime.worker.opening import Opened
from runtime.worker.shelf_room import ShelfRoom


class Shelf:
    """Models by their names. Any thread may hold one; models come and go on the loop's thread."""

    def __init__(self, first: Opened) -> None:
        """One model is loaded. No other is before there is a `room`."""
        self._loaded: Mapping[str, Opened] = {first.name: first}
        """The least recently used first. Threads read it at any time: a change puts another in its
        place, so that no model is gone while it moves to the end."""
        self._holds: Counter[str] = Counter()
        self._changing = threading.Lock()
        self.room: ShelfRoom | None = None
        self._evicted = 0

    @property
    def loaded(self) -> Sequence[Opened]:
        """Every model that is loaded, the last used first."""
        return [*reversed(list(self._loaded.values()))]

    @property
    def beside(self) -> Sequence[str]:
        """The models that fit beside those that are loaded."""
        if self.room is None:
            return []
        loaded = list(self._loaded)
        others = [name for name in self.room.needs if name not in loaded]
        return [name for name in others if self.room.fits([*loaded, name])]

    def hold(self, name: str) -> Opened | None:
        """Keep a model loaded until `release`, or from its loading on; None while it is not."""
        with self._changing:
            self._holds[name] += 1
            opened = self._loaded.get(name)
            if opened is not None:
                self._loaded = {**self._without([name]), name: opened}
            return opened

    def find(self, name: str) -> Opened | None:
        """A model that is held; None while it is not loaded."""
        return self._loaded.get(name)

    def release(self, name: str) -> None:
        """Take one hold back."""
        with self._changing:
            self._holds[name] -= 1

    def make_room(self, name: str) -> Sequence[Opened] | None:
        """Take out the models that have to go for this one; None while what it takes is in use, or
        nothing is known of the room yet.
        """
        if self.room is None:
            return None
        with self._changing:
            in_use = [
                each
                for each, opened in self._loaded.items()
                if self._holds[each] or opened.turns is not None
            ]
            going = self.room.given_up(name, list(self._loaded), in_use)
            if going is None:
                return None
            self._evicted += len(going)
            given_up = [self._loaded[each] for each in going]
            self._loaded = self._without(going)
            return given_up

    def put(self, opened: Opened) -> None:
        """A model has been loaded."""
        with self._changing:
            self._loaded = {**self._loaded, opened.name: opened}

    def evictions(self) -> int:
        """How many were taken out since the last call."""
        evicted, self._evicted = self._evicted, 0
        return evicted

    def _without(self, names: Collection[str]) -> dict[str, Opened]:
        return {name: opened for name, opened in self._loaded.items() if name not in names}

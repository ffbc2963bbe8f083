"""An engine's calls by their shapes: each call is made at the first use, and kept for reuse."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from runtime.backends.device.stream import Stream
from runtime.backends.profiles import Shape

MOST = 16
"""The most calls that are kept: one more call frees the least recently used."""


class Freeable(Protocol):
    """A call that is kept for its shapes."""

    def free(self) -> None:
        """Give the call's memory back; the call must not be running."""
        ...


CallType = TypeVar("CallType", bound=Freeable)


class Calls(Generic[CallType]):
    """The calls of one engine, on one stream."""

    def __init__(self, stream: Stream) -> None:
        """There are none yet."""
        self._stream = stream
        self._kept: OrderedDict[tuple[tuple[str, Shape], ...], CallType] = OrderedDict()

    def at(self, shapes: Mapping[str, Shape], make: Callable[[], CallType]) -> CallType:
        """The call at these shapes, which `make` makes where there is none."""
        key = tuple(sorted(shapes.items()))
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        if len(self._kept) == MOST:
            self._stream.synchronize()
            self._kept.popitem(last=False)[1].free()
        made = make()
        self._kept[key] = made
        return made

    def free(self) -> None:
        """Wait until no call is running, then free and forget all calls."""
        self._stream.synchronize()
        while self._kept:
            self._kept.popitem()[1].free()

    def __iter__(self) -> Iterator[CallType]:
        return iter(self._kept.values())

"""A cache of values that are costly to make, within a budget of memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """A cache that drops the least recently used values. Threads may share the cache."""

    def __init__(
        self, budget_bytes: int, size_bytes: Callable[[Value], int], at_least: int = 0
    ) -> None:
        """`size_bytes` measures a value. `at_least` values are kept, however large they are."""
        self._budget_bytes = budget_bytes
        self._size_bytes = size_bytes
        self._at_least = at_least
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._used_bytes = 0
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """The memory that the values take."""
        return self._used_bytes

    def get(self, key: Key) -> Value | None:
        """The value, which becomes the newest; None for a key that is not kept."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def keep(self, key: Key, value: Value) -> None:
        """Keep the value as the newest; a value that another thread kept meanwhile is replaced."""
        with self._lock:
            if (other := self._values.pop(key, None)) is not None:
                self._used_bytes -= self._size_bytes(other)
            self._values[key] = value
            self._used_bytes += self._size_bytes(value)
            while self._used_bytes > self._budget_bytes and len(self._values) > self._at_least:
                _, oldest = self._values.popitem(last=False)
                self._used_bytes -= self._size_bytes(oldest)

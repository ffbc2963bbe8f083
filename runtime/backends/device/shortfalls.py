"""What runs, and yet not as it should: no fallback is silent."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator

logger = logging.getLogger(__name__)


class Shortfalls:
    """Sentences, each of them once. Threads may share it."""

    def __init__(self) -> None:
        """So far, all is as it should be."""
        self._found: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, sentence: str) -> None:
        """Say it in the log, and to whoever asks later."""
        with self._lock:
            known = self._found[sentence] > 0
            self._found[sentence] += 1
        if not known:
            logger.warning("%s", sentence)

    def withdraw(self, sentence: str) -> None:
        """Whoever added it has no reason to any more; it holds while others have."""
        with self._lock:
            self._found[sentence] -= 1

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(tuple(+self._found))

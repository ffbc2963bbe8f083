"""An account of what runs slower or otherwise than it should: no fallback is silent."""

import logging
import threading
from collections.abc import Iterator

logger = logging.getLogger(__name__)


class Shortfalls:
    """The account: sentences, each once. Threads may share the account."""

    def __init__(self) -> None:
        """So far, all is as it should be."""
        self._found: list[str] = []
        self._lock = threading.Lock()

    def add(self, sentence: str) -> None:
        """Log a new sentence, and keep it for later readers; a known sentence is ignored."""
        with self._lock:
            if sentence in self._found:
                return
            self._found.append(sentence)
        logger.warning("%s", sentence)

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(tuple(self._found))

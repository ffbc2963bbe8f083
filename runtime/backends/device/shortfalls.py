"""What runs, and yet not as it should: no fallback is silent."""

import logging
from collections.abc import Iterator

logger = logging.getLogger(__name__)


class Shortfalls:
    """Sentences, each of them once. Threads may share it."""

    def __init__(self) -> None:
        """So far, all is as it should be."""
        self._found: dict[str, None] = {}

    def add(self, sentence: str) -> None:
        """Say it in the log, and to whoever asks later."""
        if sentence not in self._found:
            self._found[sentence] = None
            logger.warning("%s", sentence)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._found))

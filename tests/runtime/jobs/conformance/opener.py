"""The broker under test, as a suite's user gives it."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from runtime.jobs.worker_side import WorkedBroker
from tests.runtime.jobs.support import MODEL


class Opener(Protocol):
    """Opens the broker, each time on the same data, and closes it at the end of the context."""

    def __call__(
        self,
        *,
        model: str = MODEL,
        queue_limit: int = 100,
        lease_seconds: float = 30,
        max_attempts: int = 3,
    ) -> AbstractAsyncContextManager[WorkedBroker]:
        """`model`: the served one. The rest are a server's settings of these names."""
        ...

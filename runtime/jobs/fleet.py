"""Workers of one server, each with a supervisor of its own: one of them that is lost is replaced
alone, and the others go on.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from runtime.backends.wishes import BackendWish
from runtime.jobs.facts import EngineFacts, WorkerFacts
from runtime.jobs.process import WorkerProcess
from runtime.jobs.supervisor import Supervisor, WorkerFailed
from runtime.jobs.worker_side import WorkedBroker
from runtime.wire.options import WorkerOptions


class Fleet:
    """Keeps workers alive. An async context manager, within which they run."""

    def __init__(
        self,
        broker: WorkedBroker,
        options: Sequence[WorkerOptions],
        first: WorkerProcess | None = None,
    ) -> None:
        """A worker for each of the options; without any, those of other servers draw. `broker`
        must be open as long as the fleet is; `first` is a process that was started ahead, for the
        first worker.
        """
        ahead = [first, *[None] * len(options)][: len(options)]
        self._supervisors = [
            Supervisor(broker, each, process) for each, process in zip(options, ahead, strict=True)
        ]
        self._broker = broker
        self._running = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to start the workers; `wait_ready` waits for the first."""
        for supervisor in self._supervisors:
            await self._running.enter_async_context(supervisor)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the workers, all at once: they hand their jobs back."""
        self._running.pop_all()
        await asyncio.gather(
            *(each.__aexit__(kind, error, traceback) for each in self._supervisors)
        )

    @property
    def workers(self) -> Sequence[WorkerFacts]:
        """Every worker, as it is now."""
        return [facts for each in self._supervisors for facts in each.workers]

    @property
    def engine(self) -> EngineFacts | None:
        """The engine of the first worker that has one, else of another server's; None until a
        worker was ready.
        """
        own = next((each.engine for each in self._supervisors if each.engine), None)
        return own or self._broker.engine_elsewhere

    def engine_of(self, model: str) -> EngineFacts | None:
        """The engine of a model, of the first worker that has loaded it, else of another server's;
        None for none.
        """
        found = (each.engine_of(model) for each in self._supervisors)
        return next(filter(None, found), None) or self._broker.engine_elsewhere

    @property
    def ready(self) -> bool:
        """True while any worker serves, or another server's does where there are none."""
        if not self._supervisors:
            return self._broker.engine_elsewhere is not None
        return any(each.ready for each in self._supervisors)

    async def wait_ready(self) -> None:
        """Wait until a worker serves. Raises WorkerFailed where no worker ever will."""
        if self.ready:
            return None
        tasks = [asyncio.create_task(each.wait_ready()) for each in self._supervisors]
        try:
            for ended in asyncio.as_completed(tasks):
                try:
                    return await ended
                except WorkerFailed as error:
                    failure = error
            raise failure
        finally:
            for task in tasks:
                task.cancel()

    async def failure(self) -> WorkerFailed:
        """Wait until it is certain that no worker will ever be ready; returns a reason."""
        if not self._supervisors:
            await asyncio.Event().wait()
        return (await asyncio.gather(*(each.failure() for each in self._supervisors)))[0]

    def tell(self, sentence: str) -> None:
        """From now on add this sentence to the engine's note, in the place of the one before."""
        for each in self._supervisors:
            each.tell(sentence)

    async def renew(self, backend: BackendWish) -> None:
        """Replace each worker by one that draws with this backend, one after the other as they are
        ready, each between two jobs; the others serve meanwhile. Raises WorkerFailed where nothing
        serves.
        """
        turn = asyncio.Lock()

        async def renew(supervisor: Supervisor) -> None:
            # One that is not ready yet, or starts again and again, holds up no other.
            await supervisor.wait_ready()
            async with turn:
                await supervisor.renew(backend)
                await supervisor.wait_taken_over()

        renewals = [renew(each) for each in self._supervisors]
        outcomes = await asyncio.gather(*renewals, return_exceptions=True)
        failures = [each for each in outcomes if each is not None]
        unforeseen = [each for each in failures if not isinstance(each, WorkerFailed)]
        if unforeseen or len(failures) == len(outcomes):
            raise [*unforeseen, *failures][0]

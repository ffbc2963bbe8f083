"""The owner of the worker's process and socket; `runtime.jobs.lifecycle` says what follows what."""

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from runtime.backends.wishes import BackendWish
from runtime.errors import CalotypeError
from runtime.jobs.database_file import DatabaseFault
from runtime.jobs.disk import NoRoom
from runtime.jobs.facts import EngineFacts, WorkerFacts
from runtime.jobs.lifecycle import Lifecycle
from runtime.jobs.log import Bell
from runtime.jobs.process import NotStarted, WorkerProcess
from runtime.jobs.session import News, WorkerSession
from runtime.jobs.states import (
    Event,
    Failed,
    FirstStart,
    ModelLoaded,
    PauseOver,
    Pausing,
    Renew,
    Renewing,
    Restarting,
    Serving,
    Setup,
    Spawned,
    State,
    Stop,
    Stopped,
    TakingOver,
    WorkerReady,
)
from runtime.jobs.worker_side import WorkedBroker
from runtime.plan.served import Served
from runtime.wire.messages import Loaded, Ready
from runtime.wire.options import WorkerOptions
from runtime.wire.server_link import ServerLink, send_options

STOP_SECONDS = 10.0
"""Time in which a worker may hand its jobs back before it is killed."""
DISK_SECONDS = 30.0
"""Pause after a failure to queue a lost worker's jobs again, before the next try."""

logger = logging.getLogger(__name__)


class WorkerFailed(CalotypeError):
    """The worker cannot start, and another try would end the same way."""


class Supervisor:
    """Keeps one worker process alive. An async context manager, within which the worker runs."""

    def __init__(
        self, broker: WorkedBroker, options: WorkerOptions, first: WorkerProcess | None = None
    ) -> None:
        """`broker` must be open as long as the supervisor is. `first` is a process that was started
        ahead, which becomes the first worker.
        """
        self._broker = broker
        self._options = options
        self._life = Lifecycle(FirstStart(setup=Setup(options.draw.backend)))
        self._entered = Bell()
        self._first = first
        self._process: WorkerProcess | None = None
        self._session: WorkerSession | None = None

    async def __aenter__(self) -> Self:
        """Begin to start the worker; `wait_ready` waits for it."""
        self._watching = asyncio.create_task(self._watch())
        # The worker has its options before whoever entered goes on, perhaps for long.
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Stop the worker: it hands its jobs back, and they wait for the next start."""
        self._enter(self._life.after(Stop()))
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait([self._watching], timeout=STOP_SECONDS)
        if not done:
            self._signal(signal.SIGKILL)
        await self._watching

    @property
    def workers(self) -> Sequence[WorkerFacts]:
        """Every worker, as it is now."""
        facts = self._life.worker
        if self.ready and self._life.state.run.models is None:
            facts = replace(facts, models=(self._options.model,))
        return (facts,)

    @property
    def engine(self) -> EngineFacts | None:
        """The engine of the first model; None until a worker was ready."""
        return self._life.engine

    def engine_of(self, model: str) -> EngineFacts | None:
        """The engine of a model; None until the worker has loaded it."""
        return self.engine if model == self._options.model else self._life.others.get(model)

    @property
    def ready(self) -> bool:
        """True while a worker serves, be it only to finish its jobs before it is replaced."""
        return self._life.ready

    async def wait_ready(self) -> None:
        """Wait until a worker serves. Raises WorkerFailed where no worker ever will."""
        await self._reach(Serving, Renewing, Failed, Stopped)
        if not self.ready:
            raise self._failure()

    async def failure(self) -> WorkerFailed:
        """Wait until it is certain that no worker will ever be ready; returns the reason."""
        await self._reach(Failed)
        return self._failure()

    def tell(self, sentence: str) -> None:
        """From now on add this sentence to the engine's note, in the place of the one before."""
        self._life = replace(self._life, told=sentence)

    async def renew(self, backend: BackendWish) -> None:
        """Replace the worker, between two jobs, by one that draws with this backend.

        The worker begins no other job and finishes those that it has begun. Returns once the worker
        was told to exit; the new worker starts after that. Where the new worker cannot be made
        ready, the backend that served before serves again. Raises WorkerFailed where nothing
        serves.
        """
        await self.wait_ready()
        self._enter(self._life.after(Renew(backend)))
        session = self._session
        if session is not None:
            await session.drain()
            if self._session is session:
                self._signal(signal.SIGTERM)

    async def wait_taken_over(self) -> None:
        """Wait until the worker that `renew` has replaced is gone and another one serves. Raises
        WorkerFailed where nothing does.
        """
        while isinstance(self._life.state, Renewing):
            await self._entered.next_ring.wait()
        await self.wait_ready()

    def _enter(self, life: Lifecycle) -> None:
        _log(self._life.state, life)
        self._life = life
        self._entered.ring()

    async def _reach(self, *states: type[State]) -> None:
        """Wait until the worker is in one of these states."""
        while not isinstance(self._life.state, states):
            await self._entered.next_ring.wait()

    async def _watch(self) -> None:
        while True:
            match self._life.state:
                case FirstStart() | TakingOver() | Restarting() as start:
                    await self._run(start.setup)
                case Pausing() as pausing:
                    await self._pause(pausing.seconds)
                    self._enter(self._life.after(PauseOver()))
                case _:
                    return

    async def _run(self, setup: Setup) -> None:
        """Start a worker and serve it to its end."""
        draw = self._options.draw
        captures = draw.captures and not setup.why_no_graphs
        draw = replace(draw, backend=setup.backend, captures=captures)
        try:
            process = self._first or WorkerProcess()
        except NotStarted as error:
            self._enter(self._life.lost(str(error)))
            return
        self._first, self._process = None, process
        self._enter(self._life.after(Spawned(process.pid)))
        send_options(process.connection, replace(self._options, draw=draw))
        link = await ServerLink.open(process.connection)
        session = WorkerSession(
            self._broker.leases, link, self._broker.lease_seconds, self._options.load_seconds
        )
        self._session = session
        reason = await session.run(self._hear)
        self._session = None
        ending = await process.kill()
        self._process = None
        self._enter(self._life.lost(f"{reason} ({ending})"))
        await self._release(session)

    async def _release(self, session: WorkerSession) -> None:
        """Queue a lost worker's jobs again, however long the disk takes to be writable again."""
        reason = self._life.error or "the worker was lost"
        while True:
            asked = session.leaving or self._stopped
            try:
                await self._broker.leases.release(session, reason, counted=not asked)
            except (NoRoom, DatabaseFault):
                logger.exception("the jobs of a lost worker cannot be queued again yet")
                if self._stopped:
                    return  # The next server finds them.
                await self._pause(DISK_SECONDS)
            else:
                return

    @property
    def _stopped(self) -> bool:
        return isinstance(self._life.state, Stopped)

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the supervisor is stopped."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._reach(Stopped), seconds)

    def _hear(self, message: News) -> None:
        event = _event(message)
        if isinstance(event, WorkerReady):
            self._broker.leases.draws_with(event.engine)
        self._enter(self._life.after(event))

    def _failure(self) -> WorkerFailed:
        return WorkerFailed(self._life.error or "the worker failed")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(number)


def _event(message: News) -> Event:
    match message:
        case Ready():
            return WorkerReady(_engine(message), message.shortfalls)
        case Loaded(model, seconds, ready):
            return ModelLoaded(model, _engine(Ready(**ready)), seconds)
        case heard:
            return heard


def _engine(message: Ready) -> EngineFacts:
    return EngineFacts(
        backend=message.backend,
        target=message.target,
        device=message.device,
        precision=message.precision,
        ready_since=datetime.now(UTC),
        note=message.note,
        served=Served.from_json(message.served),
    )


def _log(before: State, life: Lifecycle) -> None:
    """Log the losses of workers and what follows them."""
    match before, life.state:
        case _, Pausing() as pausing:
            if pausing.setup.why_no_graphs != before.setup.why_no_graphs:
                logger.error("%s", pausing.setup.why_no_graphs)
            logger.warning("worker lost: %s; the next starts in %g s", life.error, pausing.seconds)
        case TakingOver(), Restarting() as restarting:
            logger.error("%s; going back to %s", life.told, restarting.setup.backend)
        case FirstStart(), Failed():
            logger.error("the worker cannot start: %s", life.error)

"""Starts the worker process, watches it, and replaces it when it dies.

A worker that cannot start is not one that was lost. Where none was ever ready, there is nothing to
serve with, and `failure` says so. Where one was, the next is tried until it is ready. One that was
to take another's place and never was ready leaves it to the backend that served before. One that
is lost in the first launch of a CUDA graph is followed by one that captures none.
"""

import asyncio
import logging
import os
import signal
import socket
import sqlite3
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from runtime.backends.catalog import WISHES, BackendWish
from runtime.errors import CalotypeError
from runtime.jobs.facts import EngineFacts, WorkerFacts, WorkerState
from runtime.jobs.local import LocalBroker
from runtime.jobs.session import News, WorkerSession
from runtime.plan.served import Served
from runtime.wire.link import ServerLink, socket_pair
from runtime.wire.messages import Broken, Heartbeat, Ready, Trial
from runtime.wire.options import WorkerOptions

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STOP_SECONDS = 10.0
"""How long a worker may take to hand its jobs back before it is killed."""

# NumPy's products lay LoRAs on weights while steps go on: threads of its own take the cores from
# them, and on a busy machine wait for the slowest. One takes a seventh of the processor's time.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}

logger = logging.getLogger(__name__)


class WorkerFailed(CalotypeError):
    """The worker cannot start, and another try would end the same way."""


class Supervisor:
    """One worker process, kept alive. An async context manager: it starts in the background."""

    def __init__(self, broker: LocalBroker, options: WorkerOptions) -> None:
        """`broker` is open while this is."""
        self._broker = broker
        self._options = options
        self._facts = WorkerFacts(None, WorkerState.STARTING, None, 0, None)
        self._engine: EngineFacts | None = None
        self._broken: Broken | None = None
        self._process: Process | None = None
        self._session: WorkerSession | None = None
        self._renewing = False
        self._proven = False
        """Whether a worker with these options was ever ready."""
        self._before: BackendWish | None = None
        """What served before the worker was to be renewed, until the new one is ready."""
        self._told = ""
        self._shortfalls: Sequence[str] = ()
        self._trials: list[str] = []
        """Roles whose new CUDA graphs are being launched for the first time."""
        self._without_graphs = ""
        """Why no work is captured as CUDA graphs, if that was not asked for."""
        self._without_graphs_before = ""
        """The same of what served before the worker was to be renewed."""
        self._lost_to_graph = False
        """Whether the last worker was, which is no reason to doubt its backend."""
        self._failed = asyncio.Event()
        self._settled = asyncio.Event()
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Begin to start the worker; `wait_ready` waits for it."""
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Stop the worker: it hands its jobs back, and they wait for the next start."""
        self._stopped.set()
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait([self._watching], timeout=STOP_SECONDS)
        if not done:
            self._signal(signal.SIGKILL)
        await self._watching
        self._facts = replace(self._facts, pid=None, state=WorkerState.STOPPED)

    @property
    def workers(self) -> Sequence[WorkerFacts]:
        """Every worker, as it is now."""
        return (self._facts,)

    @property
    def engine(self) -> EngineFacts | None:
        """What the pictures are made with; None until a worker was ready."""
        if self._engine is None:
            return None
        said = (self._engine.note, *self._shortfalls, self._without_graphs, self._told)
        return replace(self._engine, note="; ".join(filter(None, said)))

    @property
    def ready(self) -> bool:
        """Whether a worker takes jobs now."""
        return self._facts.state is WorkerState.READY

    async def wait_ready(self) -> None:
        """Wait until a worker takes jobs. Raises WorkerFailed when none ever will."""
        await self._settled.wait()
        if self._facts.state is WorkerState.FAILED:
            raise WorkerFailed(self._facts.error or "the worker failed")

    async def failure(self) -> WorkerFailed:
        """Wait until it is certain that no worker will ever be ready; why."""
        await self._failed.wait()
        return WorkerFailed(self._facts.error or "the worker failed")

    def tell(self, sentence: str) -> None:
        """What is to be said with the engine from now on, in the place of what was told before."""
        self._told = sentence

    async def renew(self, backend: BackendWish) -> None:
        """Replace the worker, between two jobs, by one that draws with this backend.

        It begins no job more, and what it has begun it finishes. Where the new one cannot be made
        ready, what served before takes its place again. Raises WorkerFailed where nothing serves.
        """
        await self.wait_ready()
        served = self._engine.backend if self._engine else None
        self._before = next((wish for wish in WISHES if wish == served), None)
        self._options = self._options.drawn_by(backend)
        self._without_graphs_before, self._without_graphs = self._without_graphs, ""
        self._proven, self._renewing = False, True
        if self._session is not None:
            await self._session.drain()
            self._signal(signal.SIGTERM)

    async def _watch(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopped.is_set():
            was_ready = await self._run_once()
            if self._stopped.is_set():
                return
            if self._renewing:
                self._renewing = False
                continue
            if self._before is not None and not self._lost_to_graph:
                self._go_back(self._before)
                continue
            if self._broken and self._broken.lasting and not self._proven:
                logger.error("the worker cannot start: %s", self._facts.error)
                self._facts = replace(self._facts, state=WorkerState.FAILED)
                self._settled.set()
                self._failed.set()
                return
            pause = FIRST_PAUSE if was_ready else min(2 * pause, LONGEST_PAUSE)
            logger.warning("worker lost: %s; the next starts in %g s", self._facts.error, pause)
            self._facts = replace(self._facts, restarts=self._facts.restarts + 1)
            await self._sleep(pause)

    def _go_back(self, before: BackendWish) -> None:
        self.tell(
            f"{self._options.draw.backend} was to take over and could not: {self._facts.error}"
        )
        logger.error("%s; going back to %s", self._told, before)
        self._options = self._options.drawn_by(before)
        self._without_graphs = self._without_graphs_before
        self._before, self._proven = None, True

    async def _run_once(self) -> bool:
        """Start a worker and serve it to its end; says whether it was ever ready."""
        self._broken = None
        draw = self._options.draw
        captures = draw.captures and not self._without_graphs
        ours, theirs = socket_pair(replace(self._options, draw=replace(draw, captures=captures)))
        try:
            with theirs:
                process = await self._start(theirs)
        except OSError as error:
            ours.close()
            self._lost(f"its process cannot be started: {error}")
            return False
        self._process = process
        self._facts = replace(self._facts, pid=process.pid)
        if self._stopped.is_set():
            self._signal(signal.SIGKILL)
        link = await ServerLink.open(ours)
        session = WorkerSession(self._broker.leases, link, self._broker.lease_seconds)
        self._session = session
        reason = await session.run(self._hear)
        self._session = None
        was_ready = self.ready
        self._signal(signal.SIGKILL)
        ending = _ended(process.pid, await process.wait())
        self._process = None
        self._lost(self._broken.detail if self._broken else f"{reason} ({ending})")
        self._lost_to_graph = self._was_lost_to_graph()
        await self._release(session)
        return was_ready

    def _was_lost_to_graph(self) -> bool:
        """Let the next worker make no CUDA graphs where one has ended this one: it said so, or it
        was never heard of again when it launched one for the first time.
        """
        roles, self._trials = self._trials, []
        asked = self._stopped.is_set() or self._renewing
        if asked or not (self._broken.of_graph if self._broken else roles):
            return False
        of = f" of {' and '.join(roles)}" if roles else ""
        self._without_graphs = (
            f"no CUDA graphs are used, since a worker was lost when it launched a new one{of}: "
            f"{self._facts.error}"
        )
        logger.error("%s", self._without_graphs)
        return True

    def _lost(self, reason: str) -> None:
        self._settled.clear()
        self._facts = replace(
            self._facts,
            pid=None,
            state=WorkerState.STARTING,
            device=None,
            error=reason,
            device_memory={},
        )

    async def _release(self, session: WorkerSession) -> None:
        """Queue a lost worker's jobs again, however long the disk takes to be writable again."""
        while True:
            asked = session.leaving or self._stopped.is_set()
            try:
                reason = self._facts.error or "the worker was lost"
                await self._broker.leases.release(session, reason, counted=not asked)
            except sqlite3.Error:
                logger.exception("the jobs of a lost worker cannot be queued again yet")
                if self._stopped.is_set():
                    return  # The next server finds them.
                await self._sleep(LONGEST_PAUSE)
            else:
                return

    async def _sleep(self, seconds: float) -> None:
        """Pause, but not past the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    async def _start(self, connection: socket.socket) -> Process:
        command = [sys.executable, "-m", "runtime.worker.main"]
        # A session of its own: Ctrl-C in a terminal is for the server, which then asks the worker.
        return await asyncio.create_subprocess_exec(
            *command,
            str(connection.fileno()),
            pass_fds=[connection.fileno()],
            start_new_session=True,
            env={**_ENVIRONMENT, **os.environ},
        )

    def _hear(self, message: News) -> None:
        if isinstance(message, Broken):
            self._broken = message
            return
        if isinstance(message, Trial):
            if message.over:
                self._trials.remove(message.role)
            else:
                self._trials.append(message.role)
            return
        if isinstance(message, Ready) or self.ready:
            self._shortfalls = message.shortfalls
        if isinstance(message, Heartbeat):
            self._facts = replace(self._facts, device_memory=message.device_memory)
            return
        self._facts = replace(
            self._facts, state=WorkerState.READY, device=message.device, error=None
        )
        self._engine = EngineFacts(
            backend=message.backend,
            target=message.target,
            device=message.device,
            precision=message.precision,
            ready_since=datetime.now(UTC),
            note=message.note,
            served=Served.from_json(message.served),
        )
        self._proven, self._before = True, None
        self._settled.set()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            # `send_signal` would first read the code of one that has ended, and lose it to us.
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


def _ended(pid: int, code: int) -> str:
    if code < 0:
        return f"process {pid} ended by {signal.Signals(-code).name}"
    return f"process {pid} exited with code {code}"

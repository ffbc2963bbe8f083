"""One SQLite file: a writer thread with group commit, and readers off the event loop.

Writes are decided inside the writer's transactions, one after the other, so that no two of them
can disagree. Writes that wait while a commit is being synced share the next one. Their results
reach the event loop in the order of the commits.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from runtime.jobs.database_file import connect, open_file, translated

READERS = 2

ResultT = TypeVar("ResultT")
Work = Callable[[sqlite3.Connection], ResultT]


@dataclass(frozen=True, slots=True)
class _Command:
    work: Work[Any]
    apply: Callable[[Any], None]
    future: "asyncio.Future[Any]"


@dataclass(frozen=True, slots=True)
class _Outcome:
    command: _Command
    result: object = None
    error: Exception | None = None


class Database:
    """The open database file. To be made and used on one event loop."""

    def __init__(self, path: Path) -> None:
        """Open the file and bring its schema up to date. Raises CalotypeError."""
        self.commits = 0
        self._loop = asyncio.get_running_loop()
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._connection = open_file(path)
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for _ in range(READERS):
            self._idle.put(connect(path))
        self._readers = ThreadPoolExecutor(READERS, "database-reader")
        self._writer = threading.Thread(target=self._write_all, name="database-writer")
        self._writer.start()

    async def write(
        self, work: Work[ResultT], apply: Callable[[ResultT], None] = lambda _: None
    ) -> ResultT:
        """Run `work` in a transaction, and `apply` the result on the loop once that is on disk.

        `apply` runs in the order of the commits, and even when the caller has been canceled.
        An exception in `work` undoes the changes of this `work` alone and is raised here; so is an
        exception in `apply`, which undoes nothing. An error of SQLite's is raised as NoRoom or
        DatabaseFault; one of the transaction undoes all writes that share the transaction, and is
        raised to each of their callers.
        """
        future: asyncio.Future[ResultT] = self._loop.create_future()
        self._commands.put(_Command(work, apply, future))
        try:
            return await future
        except sqlite3.IntegrityError:
            raise  # the work's own: its caller knows what it means
        except sqlite3.Error as error:
            raise translated(error) from error

    async def read(self, work: Work[ResultT]) -> ResultT:
        """Run `work` on a reader's thread: it sees every write that was answered before.

        Raises NoRoom, DatabaseFault.
        """
        try:
            return await self._loop.run_in_executor(self._readers, self._read, work)
        except sqlite3.Error as error:
            raise translated(error) from error

    async def close(self) -> None:
        """Finish what is queued, then close the file."""
        self._commands.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in (*(self._idle.get() for _ in range(READERS)), self._connection):
            connection.close()

    def _read(self, work: Work[ResultT]) -> ResultT:
        connection = self._idle.get()
        try:
            return work(connection)
        finally:
            self._idle.put(connection)

    def _write_all(self) -> None:
        while True:
            batch = [self._commands.get()]
            with suppress(queue.Empty):
                while True:
                    batch.append(self._commands.get_nowait())
            commands = [command for command in batch if command is not None]
            if commands:
                outcomes = self._transaction(commands)
                self._loop.call_soon_threadsafe(_deliver, outcomes)
            if len(commands) < len(batch):
                return

    def _transaction(self, commands: Sequence[_Command]) -> list[_Outcome]:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [_attempt(connection, command) for command in commands]
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return [_Outcome(command, error=error) for command in commands]
        self.commits += 1
        return outcomes


def _attempt(connection: sqlite3.Connection, command: _Command) -> _Outcome:
    """Run one command so that its failure leaves the others of the transaction alone."""
    connection.execute("SAVEPOINT command")
    try:
        outcome = _Outcome(command, command.work(connection))
    # Whatever the work raises belongs to its caller, on the event loop.
    except Exception as error:
        connection.execute("ROLLBACK TO command")
        outcome = _Outcome(command, error=error)
    connection.execute("RELEASE command")
    return outcome


def _deliver(outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        error = outcome.error
        if error is None:
            try:
                outcome.command.apply(outcome.result)
            except Exception as failure:  # The caller learns it; the other outcomes go on.
                error = failure
        future = outcome.command.future
        if future.done():
            continue
        if error is None:
            future.set_result(outcome.result)
        else:
            future.set_exception(error)

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from runtime.jobs.database import Database, Work
from tests.runtime.jobs.support import run

INSERT = (
    "INSERT INTO jobs (job_id, model, request, priority, status, total_steps, created_at)"
    " VALUES (?, 'm', '{}', 'batch', 'queued', 1, '')"
)


def count(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
    return found


def insert(name: str) -> Work[str]:
    def work(connection: sqlite3.Connection) -> str:
        connection.execute(INSERT, (name,))
        return name

    return work


def test_writes_that_wait_share_one_commit_and_keep_their_order(tmp_path: Path) -> None:
    async def check() -> None:
        database = Database(tmp_path / "test.sqlite3")
        running, go_on = threading.Event(), threading.Event()

        def hold(_: sqlite3.Connection) -> None:
            running.set()
            assert go_on.wait(60)

        applied: list[str] = []
        first = asyncio.ensure_future(database.write(hold))
        await asyncio.to_thread(running.wait, 60)
        rest = [
            asyncio.ensure_future(database.write(insert(f"{n:02}"), applied.append))
            for n in range(20)
        ]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, *rest)
        assert database.commits == 2
        assert applied == [f"{n:02}" for n in range(20)]
        assert await database.read(count) == 20
        await database.close()

    run(check())


def test_a_write_that_fails_is_undone_alone(tmp_path: Path) -> None:
    async def check() -> None:
        database = Database(tmp_path / "test.sqlite3")

        def fail(connection: sqlite3.Connection) -> None:
            connection.execute(INSERT, ("half",))
            raise LookupError("half way")

        results = await asyncio.gather(
            database.write(insert("a")),
            database.write(fail),
            database.write(insert("a")),
            database.write(insert("b")),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [
            str,
            LookupError,
            sqlite3.IntegrityError,
            str,
        ]
        assert await database.read(count) == 2
        await database.close()

    run(check())


def test_what_a_write_changed_is_applied_though_its_caller_has_gone(tmp_path: Path) -> None:
    async def check() -> None:
        database = Database(tmp_path / "test.sqlite3")
        running, go_on, applied = threading.Event(), threading.Event(), asyncio.Event()

        def work(connection: sqlite3.Connection) -> None:
            running.set()
            assert go_on.wait(60)
            connection.execute(INSERT, ("a",))

        caller = asyncio.ensure_future(database.write(work, lambda _: applied.set()))
        await asyncio.to_thread(running.wait, 60)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        go_on.set()
        await applied.wait()
        assert await database.read(count) == 1
        await database.close()

    run(check())


def test_the_file_is_durable_by_its_settings(tmp_path: Path) -> None:
    async def check() -> None:
        database = Database(tmp_path / "test.sqlite3")

        def settings(connection: sqlite3.Connection) -> list[object]:
            names = ("journal_mode", "synchronous", "foreign_keys", "user_version")
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert await database.write(settings) == ["wal", 2, 1, 4]
        await database.close()

    run(check())

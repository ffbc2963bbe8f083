"""Finds and deletes ended jobs and pictures beyond the bounds of retention.

What is to go is found by readers: only the deletion of a portion holds up other writes.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import chain

from runtime.jobs.bounds import Retention
from runtime.jobs.database import Database, Work
from runtime.jobs.protocol import ImageNotFound
from runtime.jobs.records import now

PORTION = 200
"""Rows of one transaction: a submission waits for no more than these."""

End = tuple[str, str]
"""The end of a job and its id, in the order in which jobs go."""

_BEFORE_ALL: End = ("", "")
_NO_PICTURE = "NOT EXISTS (SELECT 1 FROM images WHERE images.job_id = jobs.job_id)"


async def retain(
    database: Database, bounds: Retention, delete_picture: Callable[[str], Awaitable[None]]
) -> None:
    """Delete what is beyond the bounds now. Raises what `delete_picture` and a write raise."""
    while pictures := await database.read(lambda c: old_pictures(c, bounds, now())):
        for filename in pictures:
            with suppress(ImageNotFound):
                await delete_picture(filename)
    last = await database.read(lambda c: last_to_go(c, bounds, now()))
    done = _BEFORE_ALL
    while jobs := await database.read(_jobs_between(done, last)):
        await database.write(_deletion(jobs))
        done = jobs[-1]


def old_pictures(connection: sqlite3.Connection, bounds: Retention, now: datetime) -> list[str]:
    """File names of pictures beyond the bounds, the oldest first, PORTION at most."""
    found = chain(
        _aged(connection, bounds, now), _many(connection, bounds), _large(connection, bounds)
    )
    return list(dict.fromkeys(found))[:PORTION]


def last_to_go(connection: sqlite3.Connection, bounds: Retention, now: datetime) -> End:
    """The latest end of a job that is beyond the bounds; every earlier one is, too."""
    last = _BEFORE_ALL
    if bounds.job_days is not None:
        last = ((now - timedelta(days=bounds.job_days)).isoformat(), "")
    if bounds.job_count is not None:
        row = connection.execute(
            f"SELECT finished_at, job_id FROM jobs WHERE finished_at > '' AND {_NO_PICTURE}"
            " ORDER BY finished_at DESC, job_id DESC LIMIT 1 OFFSET ?",
            (bounds.job_count,),
        ).fetchone()
        last = max(last, tuple(row) if row else _BEFORE_ALL)
    return last


def _jobs_between(done: End, last: End) -> Work[list[End]]:
    """The ended jobs without a picture that follow `done`, up to `last`, PORTION at most."""
    query = (
        "SELECT finished_at, job_id FROM jobs WHERE (finished_at, job_id) > (?, ?)"
        f" AND (finished_at, job_id) <= (?, ?) AND {_NO_PICTURE}"
        " ORDER BY finished_at, job_id LIMIT ?"
    )
    return lambda connection: [
        (row["finished_at"], row["job_id"])
        for row in connection.execute(query, (*done, *last, PORTION))
    ]


def _deletion(jobs: Sequence[End]) -> Work[None]:
    """Delete these jobs with their idempotency keys."""

    def work(connection: sqlite3.Connection) -> None:
        names = [(job_id,) for _, job_id in jobs]
        connection.executemany("DELETE FROM idempotency WHERE job_id = ?", names)
        connection.executemany("DELETE FROM jobs WHERE job_id = ?", names)

    return work


def _aged(connection: sqlite3.Connection, bounds: Retention, now: datetime) -> Iterator[str]:
    if bounds.picture_days is None:
        return
    oldest = (now - timedelta(days=bounds.picture_days)).isoformat()
    for row in connection.execute(
        "SELECT filename FROM images WHERE created_at < ? ORDER BY sequence LIMIT ?",
        (oldest, PORTION),
    ):
        yield row["filename"]


def _many(connection: sqlite3.Connection, bounds: Retention) -> Iterator[str]:
    if bounds.picture_count is None:
        return
    there = connection.execute("SELECT count(*) FROM images").fetchone()[0]
    excess = min(PORTION, max(0, there - bounds.picture_count))
    for row in connection.execute(
        "SELECT filename FROM images ORDER BY sequence LIMIT ?", (excess,)
    ):
        yield row["filename"]


def _large(connection: sqlite3.Connection, bounds: Retention) -> Iterator[str]:
    if bounds.picture_bytes is None:
        return
    total = connection.execute("SELECT coalesce(sum(size_bytes), 0) FROM images").fetchone()[0]
    excess = total - bounds.picture_bytes
    rows = connection.execute(
        "SELECT filename, size_bytes FROM images ORDER BY sequence LIMIT ?", (PORTION,)
    )
    for row in rows:
        if excess <= 0:
            return
        excess -= row["size_bytes"]
        yield row["filename"]

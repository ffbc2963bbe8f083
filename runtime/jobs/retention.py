"""Deletes ended jobs and pictures beyond the bounds of retention."""

import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta

from runtime.jobs.bounds import Retention
from runtime.jobs.protocol import JobStatus

PORTION = 200
"""Rows of one transaction: a submission waits for no more than these."""
_ENDED = tuple(status.value for status in JobStatus if status.ended)


def old_pictures(connection: sqlite3.Connection, retention: Retention, now: datetime) -> list[str]:
    """File names of pictures beyond the bounds, the oldest first, PORTION at most."""
    return list(
        dict.fromkeys([*_aged(connection, retention, now), *_large(connection, retention)])
    )[:PORTION]


def delete_old_jobs(connection: sqlite3.Connection, retention: Retention, now: datetime) -> int:
    """Delete ended jobs beyond the bound, PORTION at most, with their idempotency keys; returns
    their number.
    """
    if retention.job_days is None:
        return 0
    marks = ", ".join("?" * len(_ENDED))
    rows = connection.execute(
        f"SELECT job_id FROM jobs WHERE status IN ({marks}) AND finished_at < ?"
        " AND NOT EXISTS (SELECT 1 FROM images WHERE images.job_id = jobs.job_id)"
        " ORDER BY sequence LIMIT ?",
        (*_ENDED, (now - timedelta(days=retention.job_days)).isoformat(), PORTION),
    ).fetchall()
    names = [(row["job_id"],) for row in rows]
    connection.executemany("DELETE FROM idempotency WHERE job_id = ?", names)
    connection.executemany("DELETE FROM jobs WHERE job_id = ?", names)
    return len(names)


def _aged(connection: sqlite3.Connection, retention: Retention, now: datetime) -> Iterator[str]:
    if retention.picture_days is None:
        return
    oldest = (now - timedelta(days=retention.picture_days)).isoformat()
    for row in connection.execute(
        "SELECT filename FROM images WHERE created_at < ? ORDER BY sequence LIMIT ?",
        (oldest, PORTION),
    ):
        yield row["filename"]


def _large(connection: sqlite3.Connection, retention: Retention) -> Iterator[str]:
    if retention.picture_bytes is None:
        return
    total = connection.execute("SELECT coalesce(sum(size_bytes), 0) FROM images").fetchone()[0]
    excess = total - retention.picture_bytes
    rows = connection.execute("SELECT filename, size_bytes FROM images ORDER BY sequence")
    for row in rows:
        if excess <= 0:
            return
        excess -= row["size_bytes"]
        yield row["filename"]

"""Idempotency keys: a caller's key stands for a job during KEY_LIFETIME."""

import sqlite3
from datetime import timedelta

from runtime.jobs.protocol import Idempotency, IdempotencyConflict, Job
from runtime.jobs.records import now

KEY_LIFETIME = timedelta(hours=24)


def job_of_key(connection: sqlite3.Connection, idempotency: Idempotency) -> str | None:
    """The id of a key's job; None for a new or expired key. Raises IdempotencyConflict."""
    row = connection.execute(
        "SELECT fingerprint, job_id FROM idempotency WHERE key = ? AND created_at >= ?",
        (idempotency.key, _oldest()),
    ).fetchone()
    if row is None:
        return None
    if row["fingerprint"] != idempotency.fingerprint:
        raise IdempotencyConflict(
            "this idempotency key was used with another body; take a new key for a new request"
        )
    job_id: str = row["job_id"]
    return job_id


def keep_key(connection: sqlite3.Connection, idempotency: Idempotency, job: Job) -> None:
    """Let a key stand for a job from now on, and delete the expired keys."""
    connection.execute("DELETE FROM idempotency WHERE created_at < ?", (_oldest(),))
    connection.execute(
        "INSERT INTO idempotency (key, fingerprint, job_id, created_at) VALUES (?, ?, ?, ?)",
        (idempotency.key, idempotency.fingerprint, job.job_id, job.created_at.isoformat()),
    )


def _oldest() -> str:
    return (now() - KEY_LIFETIME).isoformat()

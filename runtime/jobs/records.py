"""SQL: jobs and pictures as rows. Each function runs inside a transaction of its caller."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from runtime.errors import quoted
from runtime.jobs.database_file import damaged
from runtime.jobs.protocol import Image, ImageNotFound, Job, JobError, JobNotFound, JobStatus
from runtime.jobs.worker_side import PASSING, StaleLease


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job's row: its place in the order of arrival, the holder of its lease, the job."""

    sequence: int
    holder: str | None
    job: Job

    @property
    def rank(self) -> tuple[int, bool]:
        """The order in which jobs are leased: batch jobs wait for PASSING later ones at most."""
        batch = self.job.priority == "batch"
        return self.sequence + batch * PASSING, batch


_JOBS = """
SELECT jobs.*, images.filename, images.width, images.height, images.seed, images.prompt,
    images.created_at AS image_created_at, images.size_bytes
FROM jobs LEFT JOIN images USING (job_id)
"""


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def age(job: Job) -> float:
    """Seconds since the job was submitted, be it to a server before this one."""
    return max(0.0, (now() - job.created_at).total_seconds())


def insert_job(connection: sqlite3.Connection, job: Job) -> None:
    """Store a new job, queued."""
    connection.execute(
        "INSERT INTO jobs"
        " (job_id, model, request, priority, status, total_steps, created_at, batch_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            job.job_id,
            job.model,
            json.dumps(job.request),
            job.priority,
            job.status.value,
            job.total_steps,
            job.created_at.isoformat(),
            job.batch_id,
        ),
    )


def batch_rows(connection: sqlite3.Connection, job_id: str) -> list[StoredJob]:
    """The job of this id and those of its batch, in the order of their submission."""
    batch = "(SELECT batch_id FROM jobs WHERE job_id = ?)"
    where = f"WHERE jobs.job_id = ? OR jobs.batch_id = {batch} ORDER BY jobs.sequence"
    return [_job(row) for row in connection.execute(f"{_JOBS} {where}", (job_id, job_id))]


def rows_of_batch(connection: sqlite3.Connection, batch_id: str) -> list[StoredJob]:
    """The jobs of this batch, in the order of their submission. Raises JobNotFound."""
    where = "WHERE jobs.batch_id = ? ORDER BY jobs.sequence"
    rows = [_job(row) for row in connection.execute(f"{_JOBS} {where}", (batch_id,))]
    if not rows:
        raise JobNotFound(f"there is no batch {batch_id!r}")
    return rows


def job_row(connection: sqlite3.Connection, job_id: str) -> StoredJob:
    """The job of this id. Raises JobNotFound."""
    row = connection.execute(f"{_JOBS} WHERE job_id = ?", (job_id,)).fetchone()
    if row is None:
        raise JobNotFound(f"there is no job {job_id!r}")
    return _job(row)


def unfinished_jobs(connection: sqlite3.Connection) -> list[StoredJob]:
    """Every job that is queued or processing, in the order of arrival."""
    where = "WHERE jobs.status IN ('queued', 'processing') ORDER BY jobs.sequence"
    return [_job(row) for row in connection.execute(f"{_JOBS} {where}")]


def read_every_job(connection: sqlite3.Connection) -> None:
    """Look for a row that cannot be read. Raises DamagedDatabase, sqlite3.Error."""
    for row in connection.execute(_JOBS):
        _job(row)


def held_jobs(connection: sqlite3.Connection, holder: str) -> list[StoredJob]:
    """Every job whose lease this holder has."""
    where = "WHERE jobs.status = 'processing' AND jobs.holder = ? ORDER BY jobs.sequence"
    return [_job(row) for row in connection.execute(f"{_JOBS} {where}", (holder,))]


def leased_job(connection: sqlite3.Connection, holder: str, job_id: str) -> Job:
    """A job that this holder has the lease of. Raises StaleLease."""
    where = "WHERE jobs.job_id = ? AND jobs.holder = ?"
    row = connection.execute(f"{_JOBS} {where}", (job_id, holder)).fetchone()
    if row is None:
        raise StaleLease(job_id, holder)
    return _job(row).job


def next_jobs(
    connection: sqlite3.Connection, count: int, batch: int, models: Sequence[str] | None = None
) -> list[StoredJob]:
    """The next `count` jobs to lease, fewer where fewer wait, `batch` batch jobs at most; of these
    models alone, or of any for None.
    """
    of = "" if models is None else f" AND jobs.model IN ({', '.join('?' * len(models))})"
    queued = f"WHERE jobs.status = 'queued'{of}"
    query = (
        f"SELECT * FROM ({_JOBS} {queued} AND jobs.priority != 'batch'"
        f" ORDER BY jobs.sequence LIMIT ?) UNION ALL SELECT * FROM ({_JOBS}"
        f" {queued} AND jobs.priority = 'batch' ORDER BY jobs.sequence LIMIT ?)"
    )
    named = models or ()
    rows = connection.execute(query, (*named, count, *named, min(count, batch)))
    return sorted((_job(row) for row in rows), key=lambda stored: stored.rank)[:count]


def count_queued(connection: sqlite3.Connection) -> int:
    """Number of queued jobs."""
    query = "SELECT count(*) FROM jobs WHERE status = 'queued'"
    count: int = connection.execute(query).fetchone()[0]
    return count


def set_leased(connection: sqlite3.Connection, job_id: str, holder: str) -> None:
    """Begin another attempt of a job; `started_at` stays that of the first attempt."""
    connection.execute(
        "UPDATE jobs SET status = 'processing', holder = ?, attempt = attempt + 1,"
        " started_at = coalesce(started_at, ?) WHERE job_id = ?",
        (holder, now().isoformat(), job_id),
    )


def set_queued(connection: sqlite3.Connection, job_id: str, *, counted: bool) -> None:
    """Put a job back into the queue; an attempt that is not `counted` leaves no trace."""
    connection.execute(
        "UPDATE jobs SET status = 'queued', holder = NULL, attempt = attempt - ?,"
        " started_at = CASE WHEN attempt - ? > 0 THEN started_at END WHERE job_id = ?",
        (not counted, not counted, job_id),
    )


def set_cancel_requested(connection: sqlite3.Connection, job_id: str) -> None:
    """Record that the job's holder is to stop it."""
    connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE job_id = ?", (job_id,))


def set_ended(
    connection: sqlite3.Connection,
    job_id: str,
    status: JobStatus,
    step: int,
    error: JobError | None = None,
) -> None:
    """Record the end of a job."""
    connection.execute(
        "UPDATE jobs SET status = ?, holder = NULL, step = ?, finished_at = ?, error_title = ?,"
        " error_detail = ?, cancel_requested = max(cancel_requested, ?) WHERE job_id = ?",
        (
            status.value,
            step,
            now().isoformat(),
            error and error.title,
            error and error.detail,
            status is JobStatus.CANCELED,
            job_id,
        ),
    )


def set_warnings(connection: sqlite3.Connection, job_id: str, warnings: Sequence[str]) -> None:
    """Record what a finished picture's file lacks."""
    connection.execute(
        "UPDATE jobs SET warnings = ? WHERE job_id = ?", (json.dumps(list(warnings)), job_id)
    )


def insert_image(connection: sqlite3.Connection, image: Image) -> None:
    """Store a finished picture."""
    connection.execute(
        "INSERT INTO images (filename, job_id, width, height, seed, prompt, model, created_at,"
        " size_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            image.filename,
            image.job_id,
            image.width,
            image.height,
            image.seed,
            image.prompt,
            image.model,
            image.created_at.isoformat(),
            image.size_bytes,
        ),
    )


def image_row(connection: sqlite3.Connection, filename: str) -> Image:
    """The picture of this name. Raises ImageNotFound."""
    row = connection.execute("SELECT * FROM images WHERE filename = ?", (filename,)).fetchone()
    if row is None:
        raise ImageNotFound(f"there is no picture {filename!r}; /api/images lists them")
    return _image(row)


def delete_image_row(connection: sqlite3.Connection, filename: str) -> None:
    """Delete a picture's row. Raises ImageNotFound."""
    found = connection.execute("DELETE FROM images WHERE filename = ?", (filename,)).rowcount
    if not found:
        raise ImageNotFound(f"there is no picture {filename!r}")


def image_rows(
    connection: sqlite3.Connection, limit: int, before: int | None
) -> list[tuple[int, Image]]:
    """At most `limit` pictures with their sequence numbers, newest first.

    `before`: the sequence number below which the pictures begin; None: from the newest.
    """
    rows = connection.execute(
        "SELECT * FROM images WHERE sequence < ? ORDER BY sequence DESC LIMIT ?",
        (before if before is not None else 2**63 - 1, limit),
    )
    return [(row["sequence"], _image(row)) for row in rows]


def unlisted(connection: sqlite3.Connection, filenames: Iterable[str]) -> Iterator[str]:
    """Files of pictures that are not in the gallery and whose jobs failed or were canceled.

    One whose job completed was deleted, and somebody has put it back.
    """
    listed = {row["filename"] for row in connection.execute("SELECT filename FROM images")}
    for filename in set(filenames) - listed:
        job_id = filename.partition(".")[0]
        row = connection.execute("SELECT status FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        if row is not None and row["status"] in (JobStatus.FAILED, JobStatus.CANCELED):
            yield filename


def _job(row: sqlite3.Row) -> StoredJob:
    try:
        return _read_job(row)
    except ValueError as error:
        # SQLite finds damage in the tree of its pages, not in what they hold.
        raise damaged(f"the row of job {quoted(row['job_id'])}: {error}") from error


def _read_job(row: sqlite3.Row) -> StoredJob:
    failed = row["error_title"] is not None
    job = Job(
        job_id=row["job_id"],
        model=row["model"],
        status=JobStatus(row["status"]),
        step=row["step"],
        total_steps=row["total_steps"],
        queue_position=None,
        attempt=row["attempt"],
        priority=row["priority"],
        created_at=datetime.fromisoformat(row["created_at"]),
        started_at=_time(row["started_at"]),
        finished_at=_time(row["finished_at"]),
        request=json.loads(row["request"]),
        image=None if row["filename"] is None else _image(row, "image_created_at"),
        error=JobError(row["error_title"], row["error_detail"]) if failed else None,
        cancel_requested=bool(row["cancel_requested"]),
        warnings=tuple(json.loads(row["warnings"])),
        batch_id=row["batch_id"],
    )
    return StoredJob(row["sequence"], row["holder"], job)


def _image(row: sqlite3.Row, created_at: str = "created_at") -> Image:
    return Image(
        filename=row["filename"],
        width=row["width"],
        height=row["height"],
        seed=row["seed"],
        prompt=row["prompt"],
        model=row["model"],
        created_at=datetime.fromisoformat(row[created_at]),
        job_id=row["job_id"],
        size_bytes=row["size_bytes"],
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

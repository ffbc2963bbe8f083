"""The SQLite file of a data folder: its schema, how it is opened and checked, and its errors."""

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

from runtime.errors import CalotypeError
from runtime.files import read_ahead
from runtime.jobs.disk import NoRoom

DATABASE = "calotype.sqlite3"

BUSY_SECONDS = 5

_SCHEMA = """
CREATE TABLE jobs (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    priority TEXT NOT NULL,
    status TEXT NOT NULL,
    holder TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    step INTEGER NOT NULL DEFAULT 0,
    total_steps INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    started_at TEXT,
    finished_at TEXT,
    error_title TEXT,
    error_detail TEXT
) STRICT;
CREATE INDEX jobs_by_status ON jobs (status, sequence);

CREATE TABLE images (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    filename TEXT NOT NULL UNIQUE,
    job_id TEXT NOT NULL UNIQUE REFERENCES jobs (job_id),
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    prompt TEXT NOT NULL,
    model TEXT NOT NULL,
    created_at TEXT NOT NULL,
    size_bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE idempotency (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    job_id TEXT NOT NULL REFERENCES jobs (job_id),
    created_at TEXT NOT NULL
) STRICT;
CREATE INDEX idempotency_by_age ON idempotency (created_at);
"""

_WARNINGS = "ALTER TABLE jobs ADD COLUMN warnings TEXT NOT NULL DEFAULT '[]';"

# What a deletion looks for: the jobs that ended first, and the keys that stand for a job.
_DELETIONS = """
CREATE INDEX jobs_by_end ON jobs (finished_at, job_id);
CREATE INDEX idempotency_by_job ON idempotency (job_id);
"""

_BATCHES = """
ALTER TABLE jobs ADD COLUMN batch_id TEXT;
CREATE INDEX jobs_by_batch ON jobs (batch_id) WHERE batch_id IS NOT NULL;
"""

REMEDY = (
    "`calotype gallery reindex` moves it aside and lists the pictures anew from their files; jobs "
    "that waited are lost"
)

# MIGRATIONS[n] leads from version n to version n + 1; they are only ever added to.
MIGRATIONS = (_SCHEMA, _WARNINGS, _DELETIONS, _BATCHES)

# The low byte of SQLite's codes (sqlite.org/rescode.html).
_NO_ROOM = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}
_NO_TEXT = "Could not decode to UTF-8"
"""The words of Python's module, which has no code for them."""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class DatabaseFault(CalotypeError):
    """The database did not take a transaction, for a reason that is no want of room."""


class DamagedDatabase(DatabaseFault):
    """The file is not what SQLite has written."""


def open_file(path: Path) -> sqlite3.Connection:
    """The database, checked, with today's schema; made where there is none.

    Raises NoRoom, DamagedDatabase, and CalotypeError for a schema of a newer version.
    """
    # 200,000 jobs are checked in 0.2 s out of the page cache: it is filled ahead, in the order of
    # the file, in a tenth of the time that the check takes with a cold one.
    read_ahead([path])
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(closing(connect(path)))
            _check(connection)
            _migrate(connection, path)
        except sqlite3.Error as error:
            if _code(error) in _DAMAGED:
                raise DamagedDatabase(
                    f"{path}: cannot be opened as a database ({error}); {REMEDY}"
                ) from error
            raise type(named := translated(error))(f"{path}: {named}") from error
        stack.pop_all()
    return connection


def is_empty(path: Path) -> bool:
    """True for a file that is not there, or has nothing in it: SQLite takes it for a new one."""
    return not path.exists() or path.stat().st_size == 0


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file. Raises sqlite3.Error."""
    # Threads take turns with a connection, never two at once.
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def translated(error: sqlite3.Error) -> CalotypeError:
    """SQLite's error as one of ours, without a path."""
    code = _code(error)
    if code in _NO_ROOM:
        return NoRoom(f"the database cannot be written ({error}): free some room on its disk")
    if code in _DAMAGED or _NO_TEXT in str(error):
        return damaged(str(error))
    return DatabaseFault(f"the database failed ({error})")


def damaged(how: str) -> DamagedDatabase:
    """The error of a damaged database, without a path; `how` is one line."""
    return DamagedDatabase(f"the database {DATABASE} is damaged ({how}): stop the server; {REMEDY}")


def _code(error: sqlite3.Error) -> int:
    # One that the module itself raises has none.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _check(connection: sqlite3.Connection) -> None:
    """Read every page. Raises sqlite3.DatabaseError for one that cannot be read."""
    found: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        error = sqlite3.DatabaseError(f"damaged: {' '.join(found.split())}")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise CalotypeError(
            f"{path}: schema version {version}, this server knows up to {len(MIGRATIONS)}; "
            "serve it with the newer server that wrote it, or give another --data"
        )
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT"
        )

"""The gallery's list made anew from the files of its pictures. No file is ever deleted."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runtime.errors import CalotypeError
from runtime.files import put_in_place
from runtime.gallery import Gallery
from runtime.jobs.data_folder import locked
from runtime.jobs.database_file import DATABASE, DamagedDatabase, is_empty, open_file, translated
from runtime.jobs.protocol import Image, JobStatus
from runtime.jobs.records import insert_image, read_every_job

_SIDECARS = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Told:
    """A picture file's account of itself."""

    width: int
    height: int
    model: str
    """Empty where the file does not say."""
    request: Mapping[str, Any]
    """Empty where the file has none."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How files of pictures are read; both give None for a file that cannot be."""

    told: Callable[[Path], Told | None]
    thumbnail: Callable[[Path], bytes | None]


@dataclass(frozen=True, slots=True)
class Reindexed:
    """The outcome, in numbers of pictures."""

    kept: int = 0
    added: int = 0
    dropped: int = 0
    """Entries whose files are gone."""
    thumbnails: int = 0
    """Thumbnails that were made."""
    left: int = 0
    """Files that cannot be read, and those of jobs that did not complete."""
    others: int = 0
    """Files that are no pictures of ours."""
    aside: str | None = None
    """The name under which a damaged database is kept."""


def reindex(
    data: Path, reader: Reader, shown: Callable[[Sequence[str]], Iterable[str]]
) -> Reindexed:
    """List the pictures of a data folder; `shown` passes on their names, and may show progress.

    The list is changed in one transaction. A database that cannot be read is put aside once another
    one is whole: then jobs are lost but those of pictures. Raises CalotypeError, OSError.
    """
    if not (data / "images").is_dir():
        raise CalotypeError(f"{data}: no folder of pictures in it; name the server's with --data")
    with locked(data):
        try:
            return _reindex(data / DATABASE, Gallery(data), reader, shown)
        except sqlite3.Error as error:
            raise translated(error) from error


def _reindex(
    path: Path, gallery: Gallery, reader: Reader, shown: Callable[[Sequence[str]], Iterable[str]]
) -> Reindexed:
    if _is_whole(path):
        return _list_in(path, gallery, reader, shown)
    new = path.with_name(f"{path.name}.new")
    for suffix in _SIDECARS:
        Path(f"{new}{suffix}").unlink(missing_ok=True)
    found = _list_in(new, gallery, reader, shown)
    aside = _put_aside(path)
    put_in_place(new, path)
    return replace(found, aside=aside)


def _is_whole(path: Path) -> bool:
    if is_empty(path):
        return False
    try:
        with closing(open_file(path)) as connection:
            read_every_job(connection)
    except DamagedDatabase:
        return False
    return True


def _put_aside(path: Path) -> str | None:
    """Give the database a name that is free; returns it, or None where there is no database."""
    if not path.exists():
        return None
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in _SIDECARS[::-1]:
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.rename(f"{aside}{suffix}")
    return aside.name


def _list_in(
    path: Path, gallery: Gallery, reader: Reader, shown: Callable[[Sequence[str]], Iterable[str]]
) -> Reindexed:
    names, others = gallery.pictures()
    with closing(open_file(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        listing = _Listing(connection, gallery, reader)
        counts = Counter(outcome for filename in shown(names) for outcome in listing.add(filename))
        gone = listing.drop_all_but(names)
        if counts["added"]:
            _put_in_order(connection)
        connection.execute("COMMIT")
    return Reindexed(
        kept=counts["kept"],
        added=counts["added"],
        dropped=gone,
        thumbnails=counts["thumbnails"],
        left=counts["left"],
        others=others,
    )


class _Listing:
    """The list within a transaction."""

    def __init__(self, connection: sqlite3.Connection, gallery: Gallery, reader: Reader) -> None:
        rows = connection.execute("SELECT filename FROM images")
        self._listed = {row["filename"] for row in rows}
        self._connection = connection
        self._gallery = gallery
        self._reader = reader

    def add(self, filename: str) -> Iterator[str]:
        """List a file unless it is listed, and make its thumbnail where there is none; yields the
        fields of Reindexed that count this.
        """
        path = self._gallery.picture_path(filename)
        if path is None or not (filename in self._listed or self._insert(path)):
            yield "left"
            return
        yield "kept" if filename in self._listed else "added"
        if self._gallery.thumbnail_path(filename) is None:
            content = self._reader.thumbnail(path)
            if content is not None:
                self._gallery.add_thumbnail(filename, content)
                yield "thumbnails"

    def drop_all_but(self, filenames: Sequence[str]) -> int:
        """Delete the entries of all other files; returns their number."""
        gone = [(filename,) for filename in self._listed.difference(filenames)]
        self._connection.executemany("DELETE FROM images WHERE filename = ?", gone)
        return len(gone)

    def _insert(self, path: Path) -> bool:
        if not _may_have_picture(self._connection, path.name):
            return False
        told = self._reader.told(path)
        if told is not None:
            _insert(self._connection, path, told)
        return told is not None


def _may_have_picture(connection: sqlite3.Connection, filename: str) -> bool:
    """True unless the file's job has another picture, or ended as none, or is still to be drawn."""
    job_id = filename.partition(".")[0]
    row = connection.execute(
        "SELECT status, (SELECT count(*) FROM images WHERE job_id = ?1) AS pictures"
        " FROM jobs WHERE job_id = ?1",
        (job_id,),
    ).fetchone()
    return row is None or (row["status"] == JobStatus.COMPLETED and not row["pictures"])


def _insert(connection: sqlite3.Connection, path: Path, told: Told) -> None:
    """List a picture, with its job where that is not known any more."""
    state = path.stat()
    image = Image(
        filename=path.name,
        width=told.width,
        height=told.height,
        seed=told.request.get("seed", 0),
        prompt=told.request.get("prompt", ""),
        model=told.model,
        created_at=datetime.fromtimestamp(state.st_mtime, UTC),
        job_id=path.name.partition(".")[0],
        size_bytes=state.st_size,
    )
    made = image.created_at.isoformat()
    steps = told.request.get("steps", 0)
    connection.execute(
        "INSERT OR IGNORE INTO jobs (job_id, model, request, priority, status, attempt, step,"
        " total_steps, created_at, started_at, finished_at)"
        " VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)",
        (
            *(image.job_id, image.model, json.dumps(told.request)),
            *(told.request.get("priority", "interactive"), JobStatus.COMPLETED.value),
            *(steps, steps, made, made, made),
        ),
    )
    insert_image(connection, image)


def _put_in_order(connection: sqlite3.Connection) -> None:
    """Number the pictures from the oldest to the newest, as if each had been listed when made."""
    connection.execute(
        "CREATE TEMP TABLE ranked AS SELECT sequence,"
        " row_number() OVER (ORDER BY created_at, sequence) AS rank FROM images"
    )
    connection.execute("CREATE UNIQUE INDEX temp.ranked_by_sequence ON ranked (sequence)")
    # By way of negative numbers: no number is taken twice.
    connection.execute(
        "UPDATE images SET sequence ="
        " -(SELECT rank FROM temp.ranked WHERE ranked.sequence = images.sequence)"
    )
    connection.execute("UPDATE images SET sequence = -sequence")

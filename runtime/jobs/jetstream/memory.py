"""A server's memory of the stream: unfinished jobs on its board, the gallery's pictures, and of all
other jobs the place.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2s

from runtime.jobs.board import Board
from runtime.jobs.jetstream.journal import Entry
from runtime.jobs.jetstream.logs import SharedGalleryLog, SharedJobLog
from runtime.jobs.jetstream.records import (
    KEY,
    STANDING,
    SUBMISSION,
    KeyRecord,
    Standing,
    Submission,
)
from runtime.jobs.keys import KEY_LIFETIME
from runtime.jobs.names import cursor_after, read_cursor
from runtime.jobs.protocol import Image, ImageNotFound, Page
from runtime.jobs.records import StoredJob, now

JOBS, STANDINGS, KEYS = "jobs.", "standing.", "keys."
"""The stream's subjects, each followed by a name: of a submission, a job, a hashed key."""


@dataclass(slots=True)
class Known:
    """A job, as far as this server keeps it."""

    submission: int
    """The number of the message that it came with."""
    index: int
    """The place among the jobs of that message."""
    sequence: int
    """The place in the order of arrival."""
    revision: int
    """The number of the newest message that counts."""
    standing: int = 0
    """The number of that message where it is a standing; 0 for none yet."""
    server: str | None = None
    """The server that the holder of the lease is connected to."""
    stored: StoredJob | None = None
    """None once the job has ended: the stream has it."""
    picture: str | None = None
    """The file name of the job's picture, while it is in the gallery."""


class Memory:
    """Takes the stream's messages in their order."""

    def __init__(self) -> None:
        """Empty."""
        self._at = 0
        self._arrived = 0
        self._whole = False
        self._gallery_log = SharedGalleryLog(lambda: self._at)
        self.board = Board(self._new_log, self._gallery_log)
        self._known: dict[str, Known] = {}
        self._batches: dict[str, tuple[str, ...]] = {}
        self._images: dict[str, Image] = {}
        self._order: list[tuple[int, str]] = []
        self._ours: set[str] = set()
        self._keys: dict[str, KeyRecord] = {}
        self._outcomes: dict[str, bool | None] = {}

    def take(self, entry: Entry) -> None:
        """Take a message over. Raises ValueError for one that is not ours."""
        self._at = entry.sequence
        if entry.subject.startswith(JOBS):
            self._submitted(entry)
        elif entry.subject.startswith(STANDINGS):
            self._changed(entry)
        elif entry.subject.startswith(KEYS):
            self._kept(entry)

    def begin(self) -> None:
        """The stream was read to its end: put what is unfinished on the board."""
        unfinished = [known.stored for known in self._known.values() if known.stored]
        self._whole = True
        self._gallery_log.begin()
        self.board.fold(unfinished)

    def expect(self, submission: str) -> None:
        """A submission of this server is about to come: it is counted."""
        self._ours.add(submission)

    @contextmanager
    def awaited(self, token: str) -> Iterator[Callable[[], bool | None]]:
        """Listen for the standing with this token; the function tells whether it counted, None
        where it has not come.
        """
        self._outcomes[token] = None
        try:
            yield lambda: self._outcomes[token]
        finally:
            del self._outcomes[token]

    def key(self, hashed: str) -> KeyRecord | None:
        """The jobs that a key stands for; None for a new key, and for one that has expired."""
        known = self._keys.get(hashed)
        return None if known is None or _expired(known, now()) else known

    def known(self, job_id: str) -> Known | None:
        """A job; None for one that never was."""
        return self._known.get(job_id)

    def batch(self, batch_id: str) -> Sequence[str]:
        """The ids of a batch's jobs, in their order; none for no batch."""
        return self._batches.get(batch_id, ())

    def image(self, filename: str) -> Image:
        """A picture of the gallery. Raises ImageNotFound."""
        if filename not in self._images:
            raise ImageNotFound(f"there is no picture {filename!r}; /api/images lists them")
        return self._images[filename]

    def page(self, limit: int, cursor: str | None) -> Page:
        """A page of the gallery. Raises ValueError for a text that is no cursor of a page."""
        end = len(self._order)
        if cursor is not None:
            end = bisect_left(self._order, (read_cursor(cursor), ""))
        rows = self._order[max(0, end - limit) : end][::-1]
        more = end > limit
        images = [self._images[filename] for _, filename in rows]
        return Page(images, cursor_after(rows[-1][0]) if more else None)

    @property
    def newest_picture(self) -> str | None:
        """The file name of the newest picture; None in an empty gallery."""
        return self._order[-1][1] if self._order else None

    def held_by_servers(self) -> Iterator[tuple[str, StoredJob]]:
        """Every job whose lease somebody has, with the server that the holder is connected to."""
        for stored in self.board.unfinished:
            if stored.holder and (server := self._known[stored.job.job_id].server):
                yield server, stored

    def _submitted(self, entry: Entry) -> None:
        submission = SUBMISSION.validate_json(entry.content)
        name = entry.subject.removeprefix(JOBS)
        if submission.jobs[0].job_id in self._known:
            return  # It was written twice.
        ours = name in self._ours
        self._ours.discard(name)
        for index in range(len(submission.jobs)):
            self._add(submission, index, entry.sequence, counted=ours)
        if submission.batch_id:
            ids = tuple(asked.job_id for asked in submission.jobs)
            self._batches[submission.batch_id] = ids

    def _add(self, submission: Submission, index: int, number: int, *, counted: bool) -> None:
        self._arrived += 1
        stored = StoredJob(self._arrived, None, submission.job(index))
        self._known[stored.job.job_id] = Known(number, index, self._arrived, number, stored=stored)
        if counted:
            self.board.submitted(stored)
        elif self._whole:
            self.board.fold([stored])

    def _kept(self, entry: Entry) -> None:
        hashed = entry.subject.removeprefix(KEYS)
        record = KEY.validate_json(entry.content)
        known = self._keys.get(hashed)
        if known is None or _expired(known, record.created_at):
            self._keys[hashed] = record

    def _changed(self, entry: Entry) -> None:
        known = self._known[entry.subject.removeprefix(STANDINGS)]
        standing = STANDING.validate_json(entry.content)
        counts = standing.base == known.standing
        if self._outcomes.get(standing.token, True) is None:
            self._outcomes[standing.token] = counts
        if counts:
            known.revision = known.standing = entry.sequence
            self._stand(known, standing)

    def _stand(self, known: Known, standing: Standing) -> None:
        known.server = standing.server
        self._list(known, standing.image)
        if known.stored is None:
            return
        job = standing.on(known.stored.job)
        stored = replace(known.stored, holder=standing.holder, job=job)
        known.stored = None if standing.status.ended else stored
        if self._whole:
            self.board.fold([stored])

    def _list(self, known: Known, image: Image | None) -> None:
        """Enter the picture that came, or strike the one that went."""
        if image is not None and known.picture is None:
            known.picture = image.filename
            self._images[image.filename] = image
            insort(self._order, (_place(image), image.filename))
        elif image is None and known.picture is not None:
            gone = self._images.pop(known.picture)
            self._order.remove((_place(gone), gone.filename))
            known.picture = None
            if self._whole:
                self.board.picture_deleted(gone.filename)

    def _new_log(self, job_id: str) -> SharedJobLog:
        return SharedJobLog(lambda: self._known[job_id].revision)


def stored_job(known: Known, submission: bytes, standing: bytes) -> StoredJob:
    """A job from its two messages. Raises ValueError."""
    job = SUBMISSION.validate_json(submission).job(known.index)
    found = STANDING.validate_json(standing)
    return StoredJob(known.sequence, found.holder, found.on(job))


def _place(image: Image) -> int:
    """The place in the gallery's order, by time; what came in one microsecond, by name."""
    mark = int.from_bytes(blake2s(image.filename.encode(), digest_size=2).digest()) % 1024
    return int(image.created_at.timestamp() * 1e6) * 1024 + mark


def _expired(record: KeyRecord, time: datetime) -> bool:
    return record.created_at < time - KEY_LIFETIME

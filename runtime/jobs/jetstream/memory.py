"""A server's memory of the stream: unfinished jobs on its board, the gallery's pictures, and of all
other jobs the place.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2s

from runtime.jobs.board import Board
from runtime.jobs.jetstream.journal import Entry
from runtime.jobs.jetstream.logs import SharedGalleryLog, SharedJobLog
from runtime.jobs.jetstream.records import STANDING, SUBMISSION, Submission
from runtime.jobs.names import cursor_after, read_cursor
from runtime.jobs.protocol import Image, ImageNotFound, Page
from runtime.jobs.records import StoredJob

JOBS, STANDINGS, KEYS = "jobs.", "standing.", "keys."
"""The stream's subjects, each followed by a name: of a submission, a job, a hashed key."""


@dataclass(slots=True)
class Known:
    """A job, as far as this server keeps it."""

    submission: str
    index: int
    """The place among the jobs of the submission."""
    sequence: int
    """The place in the order of arrival."""
    revision: int
    """The number of the newest message about the job."""
    standing: int = 0
    """The number of the newest message that says how the job stands; 0 for none yet."""
    server: str | None = None
    """The server that the holder of the lease is connected to."""
    written: str = ""
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

    def take(self, entry: Entry) -> None:
        """Take a message over. Raises ValueError for one that is not ours."""
        self._at = entry.sequence
        if entry.subject.startswith(JOBS):
            self._submitted(entry)
        elif entry.subject.startswith(STANDINGS):
            self._changed(entry)

    def begin(self) -> None:
        """The stream was read to its end: put what is unfinished on the board."""
        unfinished = [known.stored for known in self._known.values() if known.stored]
        self._whole = True
        self._gallery_log.begin()
        self.board.fold(unfinished)

    def expect(self, submission: str) -> None:
        """A submission of this server is about to come: it is counted."""
        self._ours.add(submission)

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
        ours = name in self._ours
        self._ours.discard(name)
        for index in range(len(submission.jobs)):
            self._add(name, submission, index, entry.sequence, counted=ours)
        if submission.batch_id:
            ids = tuple(asked.job_id for asked in submission.jobs)
            self._batches[submission.batch_id] = ids

    def _add(
        self, name: str, submission: Submission, index: int, sequence: int, *, counted: bool
    ) -> None:
        self._arrived += 1
        stored = StoredJob(self._arrived, None, submission.job(index))
        known = Known(name, index, self._arrived, sequence, stored=stored)
        self._known[stored.job.job_id] = known
        if counted:
            self.board.submitted(stored)
        elif self._whole:
            self.board.fold([stored])

    def _changed(self, entry: Entry) -> None:
        job_id = entry.subject.removeprefix(STANDINGS)
        known = self._known[job_id]
        standing = STANDING.validate_json(entry.content)
        known.revision = known.standing = entry.sequence
        known.server, known.written = standing.server, standing.written
        self._list(known, standing.image)
        if known.stored is None:
            return
        stored = replace(known.stored, holder=standing.holder, job=standing.on(known.stored.job))
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


def stored_job(known: Known, submission: bytes, standing: bytes | None) -> StoredJob:
    """An ended job from its messages. Raises ValueError."""
    job = SUBMISSION.validate_json(submission).job(known.index)
    if standing is None:
        return StoredJob(known.sequence, None, job)
    found = STANDING.validate_json(standing)
    return StoredJob(known.sequence, found.holder, found.on(job))


def _place(image: Image) -> int:
    """The place in the gallery's order, by time; what came in one microsecond, by name."""
    mark = int.from_bytes(blake2s(image.filename.encode(), digest_size=2).digest()) % 1024
    return int(image.created_at.timestamp() * 1e6) * 1024 + mark

"""Logs of events whose ids are the same on every server: a stream that was begun on one goes on at
another.

An id is made of the number of the message in the cluster's stream that an event is from, and of the
step or the place in the queue.
"""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

from runtime.jobs.log import GalleryLog, JobLog
from runtime.jobs.protocol import GalleryEvent, JobEvent

MOST_PLACES = 999_999

_JOB_ID = re.compile(r"\d{12}-(?:s\d{6}|q\d{6})", re.ASCII)
_GALLERY_ID = re.compile(r"g\d{12}", re.ASCII)


class SharedJobLog(JobLog):
    """A job's events."""

    def __init__(self, revision: Callable[[], int]) -> None:
        """`revision` is the number of the newest message about the job."""
        super().__init__()
        self._revision = revision

    def append(self, event: JobEvent) -> None:
        """Append the event under an id that every server gives it."""
        if event.id:
            super().append(event)
            return
        # A job waits before its steps, and its place falls: ids grow.
        if event.step is None:
            place = f"q{max(0, MOST_PLACES - (event.queue_position or 0)):06d}"
        else:
            place = f"s{event.step:06d}"
        super().append(replace(event, id=f"{self._revision():012d}-{place}"))

    def number(self, event_id: str) -> int | None:
        """The number of the last event up to this id, which another server may have given."""
        if not _JOB_ID.fullmatch(event_id):
            return None
        index = bisect_right(self._entries, event_id, key=lambda entry: entry[1].id)
        if index:
            return self._entries[index - 1][0]
        return self._entries[0][0] - 1 if self._entries else None


class SharedGalleryLog(GalleryLog):
    """The latest pictures that came and went."""

    def __init__(self, sequence: Callable[[], int]) -> None:
        """`sequence` is the number of the newest message in the stream."""
        super().__init__()
        self._sequence = sequence
        self._since = 0

    def begin(self) -> None:
        """All before now was there when the server began."""
        self._since = self._sequence()

    def append(self, event: GalleryEvent) -> None:
        """Append the event under an id that every server gives it."""
        super().append(replace(event, id=_gallery_id(self._sequence())))

    def id_of(self, number: int) -> str:
        """The id of the event of this number, or of the begin where there is none."""
        index = bisect_right(self._entries, number, key=lambda entry: entry[0])
        return self._entries[index - 1][1].id if index else _gallery_id(self._since)

    def number(self, event_id: str) -> int | None:
        """The number of the last event up to this id; None where events after it are not known."""
        if not _GALLERY_ID.fullmatch(event_id) or event_id < _gallery_id(self._since):
            return None
        index = bisect_right(self._entries, event_id, key=lambda entry: entry[1].id)
        if index:
            return self._entries[index - 1][0]
        return self._entries[0][0] - 1 if self._entries else 0


def _gallery_id(sequence: int) -> str:
    return f"g{sequence:012d}"

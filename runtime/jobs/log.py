"""Logs of events for any number of listeners that each read at their own pace.

A listener holds no queue: it remembers the number of the last event that it read. So a slow
listener costs nothing, and finds every status but only the newest preview.
"""

import asyncio
import secrets
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Generic, TypeVar

from runtime.jobs.protocol import GalleryEvent, Job, JobEvent, JobStatus

GALLERY_EVENTS = 1000
PAUSE_SECONDS = 2.5e-4
"""Pause between two rounds of news for each listener: some ten times what telling it takes."""


class Bell:
    """Wakes everyone who waits for something new."""

    def __init__(self) -> None:
        """Silent."""
        self._event: asyncio.Event | None = None

    def ring(self) -> None:
        """Wake those who wait now."""
        event, self._event = self._event, None
        if event is not None:
            event.set()

    @property
    def next_ring(self) -> asyncio.Event:
        """The event of the next ring; a listener takes the event before its look for news."""
        if self._event is None:
            self._event = asyncio.Event()
        return self._event


EventT = TypeVar("EventT", JobEvent, GalleryEvent)


class Log(Generic[EventT]):
    """Numbered events: the latest `size` events are kept, or all where `size` is None."""

    def __init__(self, size: int | None) -> None:
        """Empty."""
        self.bell = Bell()
        self.listeners = 0
        # An event's id is worthless in another process: numbers begin again there.
        self._mark = secrets.token_hex(4)
        self._last = 0
        self._entries: deque[tuple[int, EventT]] = deque(maxlen=size)

    @property
    def last(self) -> int:
        """The number of the newest event; 0 before the first one."""
        return self._last

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Count a listener while the context is open."""
        self.listeners += 1
        try:
            yield
        finally:
            self.listeners -= 1

    def after(self, number: int) -> tuple[int, EventT] | None:
        """The first kept event after this number, with its own number; None for no event yet."""
        index = bisect_right(self._entries, number, key=lambda entry: entry[0])
        return self._entries[index] if index < len(self._entries) else None

    def number(self, event_id: str) -> int | None:
        """The number in an id that `id_of` made; None for any other text.

        0 is that of a stream which was opened before the first event.
        """
        digits = event_id.removeprefix(f"{self._mark}-")[:10]
        number = int(digits) if digits.isascii() and digits.isdecimal() else -1
        ours = 0 <= number <= self._last and event_id == self.id_of(number)
        return number if ours else None

    def id_of(self, number: int) -> str:
        """The id of the event of this number; as texts, too, ids sort by number, up to 999999."""
        return f"{self._mark}-{number:06d}"

    def append(self, event: EventT) -> None:
        """Number the event, and give it an id unless it has one."""
        self._last += 1
        self._entries.append((self._last, replace(event, id=event.id or self.id_of(self._last))))
        self.announce()

    def announce(self) -> None:
        """Wake the listeners."""
        self.bell.ring()


class JobLog(Log[JobEvent]):
    """One job's events. Their number is bounded by its steps and attempts."""

    def __init__(self) -> None:
        """Empty."""
        super().__init__(None)

    def queued(self, position: int) -> None:
        """The job waits; a new position replaces the position before in the log."""
        if self._entries and self._entries[-1][1].status is JobStatus.QUEUED:
            if self._entries[-1][1].queue_position == position:
                return
            self._entries.pop()
        self.append(JobEvent("", JobStatus.QUEUED, queue_position=position))

    def processing(self, step: int, total_steps: int, preview: str | None) -> None:
        """The job has been leased (step 0), or has finished a step."""
        self.append(JobEvent("", JobStatus.PROCESSING, None, step, total_steps, preview))

    def ended(self, job: Job) -> None:
        """Append the job's final event."""
        self.append(final_event(job))

    def picture_deleted(self) -> None:
        """The picture of the final event is no more: who reads the event now is told of none."""
        if self._entries and self._entries[-1][1].image is not None:
            number, event = self._entries.pop()
            self._entries.append((number, replace(event, image=None)))

    def append(self, event: JobEvent) -> None:
        """Append the event. The step before loses its preview: memory stays bounded."""
        if self._entries and self._entries[-1][1].preview is not None:
            number, before = self._entries.pop()
            self._entries.append((number, replace(before, preview=None)))
        super().append(event)


def final_event(job: Job) -> JobEvent:
    """A job's last event; its id is the same after a restart."""
    return JobEvent(f"final-{job.status}", job.status, image=job.image, error=job.error)


class GalleryLog(Log[GalleryEvent]):
    """The latest pictures that came and went.

    Listeners are woken at once, and again only after PAUSE_SECONDS for each of them: a thousand
    that were told every picture by itself would take all of the event loop's time.
    """

    def __init__(self) -> None:
        """Empty."""
        super().__init__(GALLERY_EVENTS)
        self._silent_until = 0.0
        self._waking = False

    def all_after(self, number: int) -> Sequence[tuple[int, GalleryEvent]]:
        """The kept events after this number, each with its own number."""
        first = bisect_right(self._entries, number, key=lambda entry: entry[0])
        return [*islice(self._entries, first, None)]

    def announce(self) -> None:
        """Wake the listeners, now or after their pause."""
        if not self.listeners or self._waking:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._silent_until:
            self._wake(loop)
            return
        self._waking = True
        loop.call_at(self._silent_until, self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waking = False
        self._silent_until = loop.time() + self.listeners * PAUSE_SECONDS
        self.bell.ring()

    def lost_after(self, number: int) -> bool:
        """True where events that followed this one are no longer kept."""
        return bool(self._entries) and self._entries[0][0] > number + 1

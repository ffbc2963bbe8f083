"""The streams of a broker that has a board: of a job's events, and of the gallery's."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence

from runtime.jobs.board import Board
from runtime.jobs.facts import Counters
from runtime.jobs.log import EventT, JobLog, Log, final_event
from runtime.jobs.protocol import GalleryEvent, Job, JobEvent


class BoardStreams(ABC):
    """The base of a broker over a board, which all changes reach in their order."""

    def __init__(self, board: Board) -> None:
        """Nothing is told before the board has what there is."""
        self._board = board
        self._stopping = False

    @abstractmethod
    async def job(self, job_id: str) -> Job:
        """The job as it is now. Raises JobNotFound."""

    @abstractmethod
    async def _newest_picture(self) -> str | None:
        """The file name of the newest picture; None in an empty gallery."""

    async def follow(
        self, job_id: str, last_event_id: str | None = None
    ) -> AsyncIterator[JobEvent]:
        """The job's events after `last_event_id`, else from the newest on. Raises JobNotFound."""
        job = await self.job(job_id)
        log = self._board.log(job_id)
        if log is None:
            final = final_event(job)
            if last_event_id != final.id:
                yield final
            return
        number = _resume_position(log, last_event_id)
        with log.heard():
            while (entry := await self._next(log, number)) is not None:
                number, event = entry
                if event.id != last_event_id:
                    yield event
                if event.status.ended:
                    return

    async def seen_final(self, job_id: str, last_event_id: str) -> bool:
        """True where that event was the job's last. Raises JobNotFound."""
        job = await self.job(job_id)
        return job.status.ended and final_event(job).id == last_event_id

    async def follow_gallery(
        self, last_event_id: str | None = None
    ) -> AsyncIterator[Sequence[GalleryEvent]]:
        """First a snapshot, or what came after `last_event_id`, then every picture that comes or
        goes; what came together is told together.

        A listener too slow for the log gets another snapshot in place of the events it missed.
        """
        log = self._board.gallery
        known = None if last_event_id is None else log.number(last_event_id)
        number = log.last if known is None else known
        with log.heard():
            if known is None:
                yield [await self._gallery_snapshot(number)]
            while await self._next(log, number) is not None:
                if log.lost_after(number):
                    number = log.last
                    yield [await self._gallery_snapshot(number)]
                    continue
                entries = log.all_after(number)
                number = entries[-1][0]
                yield [event for _, event in entries]

    def stop(self) -> None:
        """Take no job any more, and end every `follow` and `follow_gallery`."""
        self._stopping = True
        self._board.ring()

    def counters(self) -> Counters:
        """Counts since the start of the server, and the length of the queue now."""
        return self._board.counters()

    async def _next(self, log: Log[EventT], number: int) -> tuple[int, EventT] | None:
        """The event after that of this number, once there is one; None when the streams end."""
        while not self._stopping:
            ring = log.bell.next_ring
            entry = log.after(number)
            if entry is not None:
                return entry
            await ring.wait()
        return None

    async def _gallery_snapshot(self, number: int) -> GalleryEvent:
        newest = await self._newest_picture()
        return GalleryEvent(self._board.gallery.id_of(number), newest=newest, snapshot=True)


def _resume_position(log: JobLog, last_event_id: str | None) -> int:
    """Number of the last event that a client has read.

    A client that sent no id, or one of another log, is taken to have read all but the newest event.
    """
    known = None if last_event_id is None else log.number(last_event_id)
    return log.last - 1 if known is None else known

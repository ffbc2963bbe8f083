"""Every unfinished job in memory, as in the database, and the events of recent jobs.

The board lives on the event loop and decides nothing: the board gets each job's row after the
commit that changed the row, and tells the listeners and the workers.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from runtime.jobs import job_lines
from runtime.jobs.affinity import Waiting
from runtime.jobs.facts import Counters
from runtime.jobs.log import GalleryLog, JobLog
from runtime.jobs.protocol import GalleryEvent, Job, JobStatus
from runtime.jobs.records import StoredJob, age
from runtime.jobs.worker_side import Holder, StaleLease
from runtime.wire.messages import Paced, TimedStage

ENDED_LOGS = 256


@dataclass(slots=True)
class _Live:
    stored: StoredJob
    log: JobLog
    step: int = 0
    position: int | None = None
    leased_at: float = 0.0
    at_risk: bool = False
    """True while the holder works on the job: the loss of the holder may then be its fault."""


class Board:
    """Unfinished jobs, the logs of all recent ones, and who holds what."""

    def __init__(
        self,
        new_log: Callable[[str], JobLog] = lambda _: JobLog(),
        gallery: GalleryLog | None = None,
    ) -> None:
        """Empty. `new_log` makes the log of a job by its id; `gallery` is the gallery's, empty."""
        self.gallery = gallery or GalleryLog()
        self._new_log = new_log
        self._live: dict[str, _Live] = {}
        self._queue: list[tuple[tuple[int, bool], str]] = []
        self._ended: OrderedDict[str, JobLog] = OrderedDict()
        self._holders: dict[str, Holder] = {}
        ended = {status.value: 0 for status in JobStatus if status.ended}
        self._counters = Counters(ended=ended)

    def attach(self, holder: Holder) -> None:
        """A worker has connected."""
        self._holders[holder.name] = holder

    def detach(self, holder: Holder) -> None:
        """A worker has gone."""
        self._holders.pop(holder.name, None)

    def job(self, job_id: str) -> Job | None:
        """An unfinished job as it is now."""
        live = self._live.get(job_id)
        if live is None:
            return None
        return replace(live.stored.job, step=live.step, queue_position=live.position)

    def log(self, job_id: str) -> JobLog | None:
        """The events of a job that is unfinished, or ended not long ago."""
        live = self._live.get(job_id)
        if live is None:
            return self._ended.get(job_id)
        if live.position is not None:
            live.log.queued(live.position)
        return live.log

    def held(self, holder: str) -> list[Job]:
        """The jobs whose leases this worker has."""
        return [live.stored.job for live in self._live.values() if live.stored.holder == holder]

    def held_job(self, holder: str, job_id: str) -> Job:
        """A job that this worker has the lease of. Raises StaleLease."""
        live = self._live.get(job_id)
        if live is None or live.stored.holder != holder:
            raise StaleLease(job_id, holder)
        return live.stored.job

    def at_risk(self, holder: str, job_id: str, *, begun: bool) -> None:
        """A worker begins to work on a job, or rests from it. Raises StaleLease."""
        self.held_job(holder, job_id)
        self._live[job_id].at_risk = begun

    def risked(self, holder: str) -> set[str]:
        """The jobs that this worker works on."""
        held = {job.job_id for job in self.held(holder)}
        return {job_id for job_id in held if self._live[job_id].at_risk}

    def picture_deleted(self, filename: str) -> None:
        """A picture was deleted: listeners learn it, and its job's events no longer offer it."""
        log = self._ended.get(filename.partition(".")[0])
        if log is not None:
            log.picture_deleted()
        self.gallery.append(GalleryEvent("", deleted=filename))

    def wake(self) -> None:
        """Let every worker ask for jobs again."""
        for holder in self._holders.values():
            holder.wake()

    def ring(self) -> None:
        """Wake every listener, though there is no new event."""
        self.gallery.bell.ring()
        for log in (*(live.log for live in self._live.values()), *self._ended.values()):
            log.bell.ring()

    def submitted(self, stored: StoredJob) -> None:
        """Take over and count the row of a new job."""
        self._counters.submitted += 1
        job_lines.submitted(stored.job)
        self.fold([stored])

    def fold(self, changed: Iterable[StoredJob]) -> None:
        """Take over the rows that a commit changed."""
        first = min((self._fold(stored) for stored in changed), default=0)
        self._renumber(first)
        if self._queue:
            self.wake()

    def stepped(
        self, holder: str, job_id: str, step: int, seconds: float, preview: str | None
    ) -> None:
        """A job has finished a step. Raises StaleLease where the worker has no lease of the job."""
        job = self.held_job(holder, job_id)
        live = self._live[job_id]
        live.step = step
        live.log.processing(step, job.total_steps, preview)
        if step == 1 and job.attempt == 1:
            self._counters.first_step_waits.add(age(job))
        self._counters.steps += 1
        self._counters.step_seconds += seconds
        self._counters.previews += preview is not None

    def conditioned(self, hits: int, misses: int, seconds: float) -> None:
        """Count conditionings of prompts that a worker had kept, and those that it made in so many
        seconds.
        """
        self._counters.conditioning_hits += hits
        self._counters.conditioning_misses += misses
        self._counters.conditioning_seconds += seconds

    def paced(self, pace: Paced) -> None:
        """Count the times of a worker's loop outside of the denoiser's calls."""
        self._counters.calls += pace.calls
        self._counters.host_seconds += pace.host_seconds
        self._counters.starts += pace.starts
        self._counters.idle_seconds += pace.idle_seconds
        self._counters.previews_dropped += pace.previews_dropped
        self._counters.lora_changes += pace.lora_changes
        self._counters.lora_seconds += pace.lora_seconds
        for samples, calls in pace.batches.items():
            self._counters.batches.add(int(samples), calls)

    def timed(self, stages: Mapping[TimedStage, Iterable[float]]) -> None:
        """Count the seconds of a worker's stages."""
        for stage, each in stages.items():
            for seconds in each:
                self._counters.stages[stage].add(seconds)

    def lost(self, attempts: int) -> None:
        """Count attempts that ended with their worker."""
        self._counters.attempts_lost += attempts

    def waiting(self, count: int, batch: int, model: str) -> Sequence[StoredJob]:
        """The next `count` jobs of a model to lease, fewer where fewer wait, `batch` batch jobs at
        most.
        """
        found: list[StoredJob] = []
        for (_, of_batch), job_id in self._queue:
            if len(found) >= count:
                break
            stored = self._live[job_id].stored
            if stored.job.model == model and (not of_batch or batch > 0):
                found.append(stored)
                batch -= of_batch
        return found

    def stored(self, holder: str) -> Sequence[StoredJob]:
        """The jobs whose leases this worker has, as they are stored."""
        return [live.stored for live in self._live.values() if live.stored.holder == holder]

    @property
    def unfinished(self) -> Sequence[StoredJob]:
        """Every unfinished job, as it is stored."""
        return [live.stored for live in self._live.values()]

    def queue(self) -> Iterator[Waiting]:
        """The jobs that wait, as the choice of models sees them."""
        for _, job_id in self._queue:
            job = self._live[job_id].stored.job
            yield Waiting(job.model, job.priority != "batch", age(job))

    @property
    def queued(self) -> int:
        """The number of jobs that wait."""
        return len(self._queue)

    def counters(self) -> Counters:
        """Sums since the start, and the numbers of queued and processing jobs."""
        return replace(
            self._counters,
            queued=self.queued,
            processing=len(self._live) - self.queued,
            ended=dict(self._counters.ended),
        )

    def _fold(self, stored: StoredJob) -> int:
        """Take one row over; returns the first place of the queue that it moved."""
        job = stored.job
        live = self._live.get(job.job_id) or _Live(stored, self._new_log(job.job_id))
        place = self._leave_queue(live)
        held, live.stored = live.stored.holder, stored
        if job.status.ended:
            self._end(live)
            return place
        self._live[job.job_id] = live
        if job.status is JobStatus.QUEUED:
            if held:
                job_lines.queued_again(job)
            live.step = 0
            insort(self._queue, (stored.rank, job.job_id))
            return min(place, bisect_left(self._queue, (stored.rank, job.job_id)))
        if stored.holder != held:
            self._begin(live)
        elif job.cancel_requested and stored.holder in self._holders:
            self._holders[stored.holder].cancel(job.job_id)
        return place

    def _begin(self, live: _Live) -> None:
        job = live.stored.job
        job_lines.started(job)
        if job.attempt == 1:
            self._counters.queue_waits.add(age(job))
        live.leased_at, live.at_risk = monotonic(), False
        live.log.processing(0, job.total_steps, None)
        holder = self._holders.get(live.stored.holder or "")
        if holder is not None:
            holder.assign(job)

    def _end(self, live: _Live) -> None:
        job = live.stored.job
        self._live.pop(job.job_id, None)
        live.log.ended(job)
        job_lines.ended(job)
        self._ended[job.job_id] = live.log
        if len(self._ended) > ENDED_LOGS:
            self._ended.popitem(last=False)
        self._counters.ended[job.status.value] += 1
        if job.status is JobStatus.COMPLETED:
            self._counters.job_seconds += monotonic() - live.leased_at
            self._counters.turnarounds.add(age(job))
            self.gallery.append(GalleryEvent("", image=job.image))

    def _leave_queue(self, live: _Live) -> int:
        """Take the job out of the queue; returns its place there, or the queue's length."""
        if live.position is None:
            return len(self._queue)
        live.position = None
        place = bisect_left(self._queue, (live.stored.rank, live.stored.job.job_id))
        del self._queue[place]
        return place

    def _renumber(self, first: int) -> None:
        for position, (_, job_id) in enumerate(self._queue[first:], first + 1):
            live = self._live[job_id]
            if live.position == position:
                continue
            # A thousand that wait move at every lease: of a move those are told who listen, and who
            # comes later learns it by `log`.
            if live.position is None or live.log.listeners:
                live.log.queued(position)
            live.position = position

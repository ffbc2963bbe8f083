"""The part of a broker's side towards workers that its board alone answers: who holds what, reports
that change no record, and how many of the waiting jobs are a worker's.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.jobs.affinity import next_models
from runtime.jobs.board import Board
from runtime.jobs.facts import EngineFacts
from runtime.jobs.protocol import Job
from runtime.jobs.records import StoredJob
from runtime.jobs.worker_side import Holder
from runtime.wire.messages import Paced, TimedStage


@dataclass(frozen=True, slots=True)
class Share:
    """The jobs that a worker may lease now."""

    most: int
    """Of all."""
    batch: int
    """Of batch jobs."""
    alone: bool
    """True where the worker holds none."""

    def of(self, waiting: Sequence[StoredJob]) -> Sequence[StoredJob]:
        """Those of these jobs, the first that wait, that the worker has places for and may have
        together. A job that was lost before is leased to a worker without other jobs, or waits.
        """
        placed = [
            stored
            for number, stored in enumerate(waiting)
            if number < self.batch or not is_batch(stored.job)
        ]
        before = [stored.job.attempt > 0 for stored in placed]
        if self.alone and before and before[0]:
            return placed[:1]
        return placed[: before.index(True)] if True in before else placed


class BoardSide:
    """The base of a worker side over a board."""

    def __init__(self, board: Board) -> None:
        """Without workers."""
        self._board = board
        self._free: dict[str, int] = {}
        """The places that each worker had free when it asked last."""

    def attach(self, worker: Holder) -> None:
        """Enter a worker that has connected."""
        self._board.attach(worker)

    def detach(self, worker: Holder) -> None:
        """Tell a worker nothing any more; the caller must `release` the worker's jobs next."""
        self._free.pop(worker.name, None)
        self._board.detach(worker)
        # A job may have been left to this worker.
        self._board.wake()

    def draws_with(self, engine: EngineFacts) -> None:
        """A worker of this server draws with this engine now: nobody else has to know."""

    def job_of(self, worker: Holder, job_id: str) -> Job:
        """A job that this worker has the lease of. Raises StaleLease."""
        return self._board.held_job(worker.name, job_id)

    def holds(self, worker: Holder) -> bool:
        """True while a worker has the lease of a job."""
        return bool(self._board.held(worker.name))

    def conditioned(self, hits: int, misses: int, seconds: float) -> None:
        """Count conditionings of prompts that a worker had kept, and those that it made."""
        self._board.conditioned(hits, misses, seconds)

    def paced(self, pace: Paced) -> None:
        """Count the times of a worker's loop."""
        self._board.paced(pace)

    def timed(self, stages: Mapping[TimedStage, Sequence[float]]) -> None:
        """Count the seconds of a worker's stages."""
        self._board.timed(stages)

    def step(
        self, worker: Holder, job_id: str, step: int, seconds: float, preview: bytes | None
    ) -> None:
        """A job has finished a step; `preview` is a JPEG. Raises StaleLease."""
        # Encoded once for all listeners.
        url = None if preview is None else _data_url(preview)
        self._board.stepped(worker.name, job_id, step, seconds, url)

    def at_risk(self, worker: Holder, job_id: str, *, begun: bool) -> None:
        """A worker begins to work on a job, or rests from it. Raises StaleLease."""
        self._board.at_risk(worker.name, job_id, begun=begun)

    def _share_of(self, worker: Holder, count: int) -> Share:
        """The jobs that a worker with `count` free places may lease: less than 0 while it holds
        more interactive jobs than it has places.
        """
        held = self._board.held(worker.name)
        self._free[worker.name] = count
        if any(job.attempt > 1 for job in held):
            return Share(0, 0, alone=False)
        if self._others_free(worker):
            most = count = self._fair(worker, len(held))
        else:
            most = count + sum(map(is_batch, held))
        return Share(most, max(0, count), alone=not held)

    def _models(self, worker: Holder) -> Sequence[str] | None:
        """The models whose jobs this worker may have; None for any."""
        if not worker.shelf.loaded and not worker.shelf.beside:
            return None
        held = {job.model for job in self._board.held(worker.name)}
        return sorted(next_models(self._board.queue(), worker.shelf, held, worker.settled))

    def _leased(self, worker: Holder, count: int) -> None:
        """So many of a worker's places are free no more."""
        if worker.name in self._free:
            self._free[worker.name] -= count

    def _others_free(self, worker: Holder) -> bool:
        return any(free > 0 for name, free in self._free.items() if name != worker.name)

    def _fair(self, worker: Holder, held: int) -> int:
        """The number of waiting jobs that are this worker's where each goes to a free place of the
        worker that holds the fewest: a burst is drawn by all workers, not by the first that asks.
        """
        free = {name: places for name, places in self._free.items() if places > 0}
        holds = {name: len(self._board.held(name)) for name in free}
        for _ in range(min(self._board.queued, sum(free.values()))):
            least = min(free, key=lambda name: (holds[name], name != worker.name))
            holds[least] += 1
            free[least] -= 1
            if not free[least]:
                del free[least]
        return holds.get(worker.name, held) - held


def is_batch(job: Job) -> bool:
    """True for a job of batch priority."""
    return job.priority == "batch"


def _data_url(jpeg: bytes) -> str:
    """The JPEG as a URL that a browser's `img` element takes."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")

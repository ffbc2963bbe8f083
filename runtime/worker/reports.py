"""Reports on their way to the server: each job's in order, its previews made beside them.

One thread sends. Another makes previews, one at a time and of interactive jobs first, and gives way
to all other threads: where steps want every core, previews take little from them and fall behind.
Then the newest wins: of the steps of a job whose previews wait to be made, only the latest keeps
its wish. A step's report waits for a preview no longer than until the next report of its job, and a
preview that is ready later goes out with a later step. No job's end waits for a preview.
"""

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from runtime.backends.protocol import Reading
from runtime.errors import BackendError
from runtime.wire.link import WorkerLink
from runtime.wire.messages import LinkError, Message, Paced, Stepped
from runtime.worker.task import Task

PREVIEW_NICENESS = 10
"""Against threads of niceness 0 that want its core, such a thread of Linux gets a tenth of it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """A preview that is to be made: of what a task's latest step has predicted."""

    task: Task
    predicted: Reading


class Reports:
    """Sends reports to the server, on a thread of its own; any thread may hand them over."""

    def __init__(self, link: WorkerLink, preview: Callable[[Wish], bytes]) -> None:
        """`preview` makes the JPEG of a wish, in another thread; empty where there is none."""
        self._link = link
        self._preview = preview
        self._notices: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._held: dict[str, Stepped] = {}
        """By job, the report of its latest step, which waits for a preview."""
        self._ready: dict[str, bytes] = {}
        """By job, a preview that is made while a later one is already to be made."""
        self._wishes: dict[str, Wish] = {}
        """By job, the preview that is to be made next, in the order in which jobs began to wait."""
        self._making: str | None = None
        """The job whose preview is being made; None once the job has ended."""
        self._busy = False
        self._dropped = 0
        # A plain queue and thread: an executor's futures cost 0.05 ms a preview more.
        self._orders: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._report, name="reporter", daemon=True)
        self._sender.start()
        threading.Thread(target=self._make_previews, name="previewer", daemon=True).start()

    def say(self, message: Message) -> None:
        """Send a message."""
        self._notices.put(partial(self._send, message))

    def stepped(self, report: Stepped, wish: Wish | None) -> None:
        """A task has finished a step, of which there may be a preview."""
        self._notices.put(partial(self._step, report, wish))

    def ended(self, job_id: str, last: Message) -> None:
        """Send a job's last report, after those of all of its steps."""
        self._notices.put(partial(self._end, job_id, last))

    def close(self) -> None:
        """Send all that was handed over; a preview that is being made is not waited for."""
        self._notices.put(None)
        self._sender.join()
        self._orders.put(None)

    def _report(self) -> None:
        while (notice := self._notices.get()) is not None:
            notice()

    def _make_previews(self) -> None:
        _give_way()
        while (order := self._orders.get()) is not None:
            order()

    def _step(self, report: Stepped, wish: Wish | None) -> None:
        job_id = report.job_id
        self._release(job_id)
        self._held[job_id] = report
        if wish is not None:
            self._drop(self._wishes.get(job_id))
            # In the place of the job's wish before: jobs whose steps end together take turns.
            self._wishes[job_id] = wish
            self._make_next()
        self._release_unless_awaited(job_id)

    def _made(self, job_id: str, jpeg: bytes) -> None:
        if jpeg and self._making == job_id:
            self._dropped += job_id in self._ready
            self._ready[job_id] = jpeg
        self._making, self._busy = None, False
        self._make_next()
        self._release_unless_awaited(job_id)

    def _end(self, job_id: str, last: Message) -> None:
        self._release(job_id)
        self._drop(self._wishes.pop(job_id, None))
        if self._making == job_id:
            self._making = None
            self._dropped += 1
        if self._dropped:
            self._send(Paced(previews_dropped=self._dropped))
            self._dropped = 0
        self._send(last)

    def _release_unless_awaited(self, job_id: str) -> None:
        """Send a step's report, unless a preview of its job is made or is to be made."""
        if self._making != job_id and job_id not in self._wishes:
            self._release(job_id)

    def _release(self, job_id: str) -> None:
        """Send the report that is held, with the latest preview if there is a new one."""
        held = self._held.pop(job_id, None)
        if held is not None:
            self._send(replace(held, payload=self._ready.pop(job_id, b"")))

    def _drop(self, wish: Wish | None) -> None:
        if wish is not None:
            self._dropped += 1
            self._orders.put(partial(_read, wish.predicted))

    def _make_next(self) -> None:
        if self._busy or not self._wishes:
            return
        # Of those alike, the job that waits longest.
        wish = min(self._wishes.values(), key=lambda wish: not wish.task.urgent)
        self._making, self._busy = wish.task.job_id, True
        self._orders.put(partial(self._make, self._wishes.pop(wish.task.job_id)))

    def _make(self, wish: Wish) -> None:
        self._notices.put(partial(self._made, wish.task.job_id, self._preview(wish)))

    def _send(self, report: Message) -> None:
        try:
            self._link.send(report)
        except LinkError:
            logger.warning("%s is not heard: the server is gone", type(report).__name__)


def _read(unseen: Reading) -> None:
    """Read what nobody looks at: a reading holds memory that a device has written."""
    # The loop meets the fault of the device as well, and ends the process.
    with suppress(BackendError):
        unseen()


def _give_way() -> None:
    """Lower the priority of the calling thread: on Linux a thread has a niceness of its own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PREVIEW_NICENESS)

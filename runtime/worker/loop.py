"""The process that owns a device: takes jobs from the server, makes their pictures, reports.

The loop's thread uses the denoiser, and no other thread does: it makes steps, and between two of
them takes in the pictures that are ready and puts LoRA sets on. The admission thread makes pictures
ready, in the order of their assignment: it plans requests, runs the text encoders and draws noise.
The reporter makes previews and sends each job's reports in order. The finisher decodes finished
latents and writes the picture files.

A job that cannot be made fails alone. A failure in a call which jobs share, or a failure of the
device on any thread, ends the process and with it the fault of the device: the server then gives
the process's jobs another attempt, each alone.
"""

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from runtime.backends.protocol import Reading
from runtime.draw.denoise import Prepared, Sample, StepEvent
from runtime.draw.generate import Generator
from runtime.draw.infotext import infotext
from runtime.draw.preview import thumbnail
from runtime.draw.recipe import EXTENSIONS, encode_picture
from runtime.errors import DeviceError, RequestError
from runtime.gallery import Gallery, picture_name
from runtime.wire.link import WorkerLink
from runtime.wire.messages import (
    Assignment,
    Cancel,
    Canceled,
    Completed,
    Conditioned,
    Failed,
    Leaving,
    LinkError,
    Message,
    Stepped,
    Vacant,
)
from runtime.worker.pulse import EXIT_SERVER_GONE

PREVIEWS_WAITING = 4
"""The most previews of a job that wait to be made; further steps are reported without previews."""

logger = logging.getLogger(__name__)


class Task:
    """A job that this worker was assigned, until its last report."""

    def __init__(self, job_id: str, request: Mapping[str, Any]) -> None:
        """`request` is the complete body of the request, as JSON."""
        self.job_id = job_id
        self.request = request
        self.canceled = False
        self.sample: Sample | None = None
        self.finishing: Future[None] | None = None
        self.previews = threading.BoundedSemaphore(PREVIEWS_WAITING)
        self.last_step_at = 0.0
        """Monotonic seconds at the latest step, or at the admission before the first step."""


class Stop:
    """In the inbox: the process was asked to exit."""


@dataclass(frozen=True, slots=True)
class Lost:
    """In the inbox: the device failed on another thread than the loop's."""

    error: DeviceError


@dataclass(frozen=True, slots=True)
class Readied:
    """In the inbox: the admission thread has made a task's picture ready for the denoiser."""

    task: Task
    picture: Prepared


@dataclass(frozen=True, slots=True)
class Refused:
    """In the inbox: the admission thread could not make a task's picture ready."""

    task: Task
    error: Exception


Notice = Message | Readied | Refused | Lost | Stop
"""The entries of the inbox, which the loop's thread reads between two turns."""


class Worker:
    """Runs a generator over the jobs that come through a link."""

    def __init__(self, generator: Generator, gallery: Gallery, link: WorkerLink) -> None:
        """Nothing is received yet."""
        self._generator = generator
        self._gallery = gallery
        self._link = link
        self._assigned: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._tasks: dict[str, Task] = {}
        self._ready: deque[Readied] = deque()
        self._running: dict[Sample, Task] = {}
        self._lookups = generator.conditioner.lookups
        self._stopping = False
        self._reporter = ThreadPoolExecutor(1, "reporter")
        self._finisher = ThreadPoolExecutor(1, "finisher")

    def run(self, places: int) -> None:
        """Make jobs, up to `places` at once, until `stop`.

        Raises what a shared call raises, DeviceError of any thread, and LinkError.
        """
        # Nobody waits for these at the end: one of them may be in a text encoder.
        threading.Thread(target=self._receive, name="receiver", daemon=True).start()
        threading.Thread(target=self._make_ready, name="admission", daemon=True).start()
        self._link.send(Vacant(places))
        while self._take_orders(wait=True):
            for events in self._generator.turns(self._arrivals):
                for event in events:
                    self._stepped(event)
                if not self._take_orders(wait=False):
                    break
        self._leave()

    def stop(self) -> None:
        """Begin nothing more and let `run` return soon. May be called from a signal handler."""
        self._inbox.put(Stop())

    def _receive(self) -> None:
        try:
            while True:
                match self._link.receive():
                    case Assignment(job_id, request):
                        self._tasks[job_id] = task = Task(job_id, request)
                        self._assigned.put(task)
                    case message:
                        self._inbox.put(message)
        except LinkError:
            # Nobody is left to report to, and whoever comes next starts a worker of its own.
            os._exit(EXIT_SERVER_GONE)

    def _take_orders(self, *, wait: bool) -> bool:
        """Act on all notices in the inbox; with `wait`, first wait for a notice if there is none.

        Returns False once the process is to stop.
        """
        wait = wait and not self._stopping
        while wait or not self._inbox.empty():
            wait = False
            self._take(self._inbox.get())
        return not self._stopping

    def _take(self, notice: Notice) -> None:
        match notice:
            case Cancel(job_id):
                self._cancel(job_id)
            case Readied():
                self._ready.append(notice)
            case Refused(task, error):
                self._refuse(task, error)
            case Stop():
                self._stopping = True
            case Lost(error):
                raise error
            case message:
                raise LinkError(f"{type(message).__name__} is nothing that a server says")

    def _cancel(self, job_id: str) -> None:
        task = self._tasks.get(job_id)
        if task is None:
            return
        task.canceled = True
        if task.finishing is not None:
            return  # The finisher reports either a cancel or a picture.
        if task.sample is not None:
            task.sample.canceled = True
            del self._running[task.sample]
        # A task without a sample is skipped by the admission thread or by `_arrivals`.
        self._end(task, Canceled(job_id))
        self._link.send(Vacant(1))

    def _make_ready(self) -> None:
        """The admission thread: prepare the pictures of tasks, in the order of their assignment."""
        while True:
            task = self._assigned.get()
            if not (task.canceled or self._stopping):
                self._prepare(task)

    def _prepare(self, task: Task) -> None:
        try:
            model = self._generator.model
            picture = self._generator.prepare(model.plan(model.read(task.request)))
        except DeviceError as error:
            self._inbox.put(Lost(error))
        except Exception as error:
            self._inbox.put(Refused(task, error))
        else:
            self._report_lookups()
            self._inbox.put(Readied(task, picture))

    def _report_lookups(self) -> None:
        before, self._lookups = self._lookups, self._generator.conditioner.lookups
        made = self._lookups.since(before)
        self._send(Conditioned(made.hits, made.misses, made.seconds))

    def _arrivals(self, free: int) -> Sequence[Sample]:
        """Hand pictures that are ready to the denoiser, as many as there are places free."""
        admitted: list[Sample] = []
        while self._ready and len(admitted) < free:
            ready = self._ready.popleft()
            task = ready.task
            if task.canceled:
                continue
            try:
                task.sample = sample = self._generator.admit(ready.picture)
            except DeviceError:
                raise
            except Exception as error:
                self._refuse(task, error)
                continue
            task.last_step_at = time.monotonic()
            self._running[sample] = task
            admitted.append(sample)
        return admitted

    def _refuse(self, task: Task, error: Exception) -> None:
        """End a task that has no sample; its place is free again."""
        if not task.canceled:
            self._fail(task, error)
            self._link.send(Vacant(1))

    def _stepped(self, event: StepEvent) -> None:
        task = self._running[event.sample]
        now = time.monotonic()
        seconds, task.last_step_at = now - task.last_step_at, now
        predicted = None
        if event.sample.plan.wants_preview(event.step) and task.previews.acquire(blocking=False):
            predicted = self._generator.reading_predicted(event.sample)
        self._reporter.submit(self._report_step, task, event.step, seconds, predicted)
        if event.finished:
            del self._running[event.sample]
            latents = self._generator.reading(event.sample)
            task.finishing = self._finisher.submit(self._finish, task, event.sample, latents)

    def _report_step(
        self, task: Task, step: int, seconds: float, predicted: Reading | None
    ) -> None:
        preview = b""
        if predicted is not None:
            preview = self._preview(task, predicted)
            task.previews.release()
        self._send(Stepped(task.job_id, step, seconds, preview))

    def _preview(self, task: Task, predicted: Reading) -> bytes:
        size = (task.request["width"], task.request["height"])
        try:
            latents = predicted()
            return b"" if task.canceled else self._generator.previewer.jpeg(latents, *size)
        except DeviceError as error:
            self._inbox.put(Lost(error))
            return b""
        except Exception:
            logger.exception("job %s: no preview", task.job_id)
            return b""

    def _finish(self, task: Task, sample: Sample, latents: Reading) -> None:
        # The place is free only now that the finisher begins this picture: no more pictures than
        # places can wait for the finisher.
        self._send(Vacant(1))
        try:
            done = self._picture(task, sample, latents)
        except DeviceError as error:
            self._inbox.put(Lost(error))
        except Exception as error:
            self._fail(task, error)
        else:
            self._end(task, done)

    def _picture(self, task: Task, sample: Sample, latents: Reading) -> Completed | Canceled:
        request, model = sample.plan.request, self._generator.model
        pixels = self._generator.decode(latents())
        picture = encode_picture(
            pixels, request, infotext(sample.plan, model.manifest, model.facts)
        )
        small = thumbnail(pixels)
        if task.canceled:
            return Canceled(task.job_id)
        filename = picture_name(task.job_id, EXTENSIONS[request.output_format])
        self._gallery.add(filename, picture.content, small)
        height, width = pixels.shape[:2]
        warnings = [picture.warning] if picture.warning else []
        size = len(picture.content)
        return Completed(task.job_id, filename, width, height, size, warnings)

    def _fail(self, task: Task, error: Exception) -> None:
        expected = isinstance(error, RequestError)
        logger.warning("job %s failed: %s", task.job_id, error, exc_info=not expected)
        title = "The request cannot be served" if expected else "The picture could not be made"
        detail = " ".join(str(error).split()) or type(error).__name__
        self._end(task, Failed(task.job_id, title, detail))

    def _end(self, task: Task, report: Message) -> None:
        """A job's last report follows all of its steps: the reporter keeps the order."""
        self._tasks.pop(task.job_id, None)
        self._reporter.submit(self._send, report)

    def _send(self, report: Message) -> None:
        try:
            self._link.send(report)
        except LinkError:
            logger.warning("%s is not heard: the server is gone", type(report).__name__)

    def _leave(self) -> None:
        """Finish the picture that is being written; the server takes all other jobs back."""
        self._send(Leaving())
        self._finisher.shutdown(cancel_futures=True)
        self._reporter.shutdown()

"""The process that owns a device: takes jobs from the server, makes their pictures, reports.

The loop's thread does nothing but steps. Previews are made and everything is reported by one
thread, in order; finished latents become files on another. A job that cannot be made fails alone.
An engine that fails in a call which jobs share ends the process: the server gives these jobs
another attempt, each alone, and what is wrong with the device does not outlive it.
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

from runtime.backends.protocol import OnDevice, Reading
from runtime.draw.denoise import Sample, StepEvent
from runtime.draw.generate import Generator
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
    Heartbeat,
    Leaving,
    LinkError,
    Message,
    Stepped,
    Vacant,
)

PREVIEWS_WAITING = 4
"""Of one job: more steps than this behind, and a step is shown without its preview."""

EXIT_SERVER_GONE = 3

logger = logging.getLogger(__name__)


class Job:
    """A job of this worker, from its assignment to its last report."""

    def __init__(self, job_id: str, request: Mapping[str, Any]) -> None:
        """`request` is the complete body."""
        self.job_id = job_id
        self.request = request
        self.canceled = False
        self.sample: Sample | None = None
        self.finishing: Future[None] | None = None
        self.previews = threading.BoundedSemaphore(PREVIEWS_WAITING)
        self.last_step_at = time.monotonic()


class Stop:
    """Among the orders: the process was asked to exit."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Among the orders: the device failed on another thread than the loop's."""

    error: DeviceError


class Worker:
    """Runs a generator over the jobs that come through a link."""

    def __init__(self, generator: Generator, gallery: Gallery, link: WorkerLink) -> None:
        """Nothing is received yet."""
        self._generator = generator
        self._gallery = gallery
        self._link = link
        self._inbox: queue.SimpleQueue[Message | Stop | Lost] = queue.SimpleQueue()
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._running: dict[Sample, Job] = {}
        self._lookups = generator.conditioner.lookups
        self._stopping = False
        self._reporter = ThreadPoolExecutor(1, "reporter")
        self._finisher = ThreadPoolExecutor(1, "finisher")

    def run(self, places: int) -> None:
        """Make jobs, up to `places` at once, until `stop`. Raises what a shared call raises."""
        threading.Thread(target=self._receive, name="receiver", daemon=True).start()
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
                self._inbox.put(self._link.receive())
        except LinkError:
            # Nobody is left to report to, and whoever comes next starts a worker of its own.
            os._exit(EXIT_SERVER_GONE)

    def _take_orders(self, *, wait: bool) -> bool:
        """Take in what was received, or `wait` for something; says whether to go on."""
        wait = wait and not self._stopping
        while wait or not self._inbox.empty():
            wait = False
            match self._inbox.get():
                case Assignment(job_id, request):
                    self._jobs[job_id] = job = Job(job_id, request)
                    self._waiting.append(job)
                case Cancel(job_id):
                    self._cancel(job_id)
                case Stop():
                    self._stopping = True
                case Lost(error):
                    raise error
                case message:
                    raise LinkError(f"{type(message).__name__} is nothing that a server says")
        return not self._stopping

    def _cancel(self, job_id: str) -> None:
        job = self._jobs.get(job_id)
        if job is None:
            return
        job.canceled = True
        if job.finishing is not None:
            return  # The finisher sees it before it writes; the server sees it after.
        if job.sample is None:
            self._waiting.remove(job)
        else:
            job.sample.canceled = True
            del self._running[job.sample]
        self._end(job, Canceled(job_id))
        self._link.send(Vacant(1))

    def _arrivals(self, free: int) -> Sequence[Sample]:
        started: list[Sample] = []
        while self._waiting and len(started) < free:
            job = self._waiting.popleft()
            sample = self._start(job)
            if sample is None:
                self._link.send(Vacant(1))
                continue
            job.sample = sample
            self._running[sample] = job
            started.append(sample)
        return started

    def _start(self, job: Job) -> Sample | None:
        """Plan a job and admit it; one that cannot be made fails here, and nothing else does."""
        try:
            model = self._generator.model
            sample = self._generator.start(model.plan(model.read(job.request)))
        except DeviceError:
            raise
        except Exception as error:
            self._fail(job, error)
            return None
        before, self._lookups = self._lookups, self._generator.conditioner.lookups
        hits, misses = self._lookups.hits - before.hits, self._lookups.misses - before.misses
        self._send(Conditioned(hits, misses))
        return sample

    def _stepped(self, event: StepEvent) -> None:
        job = self._running[event.sample]
        now = time.monotonic()
        seconds, job.last_step_at = now - job.last_step_at, now
        predicted = None
        if event.sample.plan.wants_preview(event.step) and job.previews.acquire(blocking=False):
            predicted = self._generator.reading_predicted(event.sample)
        self._reporter.submit(self._report_step, job, event.step, seconds, predicted)
        if event.finished:
            del self._running[event.sample]
            latents = self._generator.reading(event.sample)
            job.finishing = self._finisher.submit(self._finish, job, event.sample, latents)

    def _report_step(self, job: Job, step: int, seconds: float, predicted: Reading | None) -> None:
        preview = b""
        if predicted is not None:
            preview = self._preview(job, predicted)
            job.previews.release()
        self._send(Stepped(job.job_id, step, seconds, preview))

    def _preview(self, job: Job, predicted: Reading) -> bytes:
        size = (job.request["width"], job.request["height"])
        try:
            latents = predicted()
            return b"" if job.canceled else self._generator.previewer.jpeg(latents, *size)
        except DeviceError as error:
            self._inbox.put(Lost(error))
            return b""
        except Exception:
            logger.exception("job %s: no preview", job.job_id)
            return b""

    def _finish(self, job: Job, sample: Sample, latents: Reading) -> None:
        # Only now: pictures that wait to be finished are bounded by the places in the batch.
        self._send(Vacant(1))
        try:
            done = self._picture(job, sample, latents)
        except DeviceError as error:
            self._inbox.put(Lost(error))
        except Exception as error:
            self._fail(job, error)
        else:
            self._end(job, done)

    def _picture(self, job: Job, sample: Sample, latents: Reading) -> Completed | Canceled:
        request = sample.plan.request
        pixels = self._generator.decode(latents())
        picture = encode_picture(pixels, request, self._generator.model.name)
        small = thumbnail(pixels)
        if job.canceled:
            return Canceled(job.job_id)
        filename = picture_name(job.job_id, EXTENSIONS[request.output_format])
        self._gallery.add(filename, picture, small)
        height, width = pixels.shape[:2]
        return Completed(job.job_id, filename, width, height, len(picture))

    def _fail(self, job: Job, error: Exception) -> None:
        expected = isinstance(error, RequestError)
        logger.warning("job %s failed: %s", job.job_id, error, exc_info=not expected)
        title = "The request cannot be served" if expected else "The picture could not be made"
        detail = " ".join(str(error).split()) or type(error).__name__
        self._end(job, Failed(job.job_id, title, detail))

    def _end(self, job: Job, report: Message) -> None:
        """A job's last report follows all of its steps: the reporter keeps the order."""
        self._jobs.pop(job.job_id, None)
        self._reporter.submit(self._send, report)

    def _send(self, report: Message) -> None:
        try:
            self._link.send(report)
        except LinkError:
            logger.warning("%s is not heard: the server is gone", type(report).__name__)

    def _leave(self) -> None:
        """Finish only the picture that is being written; the server takes the rest back."""
        self._send(Leaving())
        self._finisher.shutdown(cancel_futures=True)
        self._reporter.shutdown()


class Pulse:
    """Lets the server hear from this process every so many seconds, on a thread of its own."""

    def __init__(self, link: WorkerLink, seconds: float) -> None:
        """It begins at once."""
        self._link = link
        self._seconds = seconds
        self.device: OnDevice | None = None
        """What is told of; None until it is open, and for a CPU."""
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def _beat(self) -> None:
        pause = threading.Event()
        try:
            while not pause.wait(self._seconds):
                shortfalls = list(self.device.shortfalls) if self.device else []
                self._link.send(Heartbeat(self._device_memory(), shortfalls))
        except LinkError:
            os._exit(EXIT_SERVER_GONE)

    def _device_memory(self) -> Mapping[str, int]:
        try:
            return self.device.device_memory() if self.device else {}
        except DeviceError:
            return {}  # The loop hears of it by itself.

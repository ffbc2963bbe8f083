"""The process that owns a device: takes jobs from the server, makes their pictures, reports.

The loop's thread uses the denoiser, and no other thread does: it makes steps, and between two of
them takes in the pictures that are ready and puts LoRA sets on. The admission thread makes pictures
ready, interactive ones first and else in the order of their assignment: it plans requests, runs the
text encoders, draws noise and computes the weights of LoRAs. `reports.py` has the threads that send
reports and make previews, `finishing.py` those that decode finished latents and write the picture
files.

The server is told of a free place a little before a picture's last step, so that the next picture
is ready by then. No more pictures than there are places are asked for ahead of the decoder: where
it falls behind, a place is free only when the decoder begins with the picture that had the place.
Where batch jobs have all places, an interactive job is taken in beyond them.

A job that cannot be made fails alone. A failure in a call which jobs share, or a failure of the
device on any thread, ends the process and with it the fault of the device: the server then gives
the process's jobs another attempt, each alone.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from runtime.backends.protocol import Reading
from runtime.draw.denoise import Prepared, Sample, StepEvent
from runtime.draw.generate import Generator
from runtime.draw.kept_costs import KeptCosts
from runtime.errors import DeviceError, PictureError, RequestError, in_one_line
from runtime.gallery import Gallery
from runtime.plan.plan import Plan
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
    Paced,
    Risk,
    Stepped,
    Timed,
    Unsaved,
    Vacant,
)
from runtime.worker.finishing import Finishing
from runtime.worker.pulse import EXIT_SERVER_GONE
from runtime.worker.reports import Reports, Wish
from runtime.worker.task import Task
from runtime.worker.watch import Watch

LEAD_SECONDS = 1.0
"""A job is asked for so long before the loop will be free for it: time enough to lease the job, to
encode its prompts, to draw its noise and to compute the weights of its LoRAs.
"""

IDLE_SECONDS = 1.0
"""LoRAs are warmed up once there was no job for so long: whoever waited for the server to be ready
asks for the first picture at once.
"""

REST_SECONDS = 10.0
"""The memory of calls is given back once there was no job for so long: each number of pictures that
shared one leaves some, which would add up.
"""

logger = logging.getLogger(__name__)


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

    def __init__(
        self,
        generator: Generator,
        gallery: Gallery,
        link: WorkerLink,
        kept: KeptCosts,
        watch: Watch,
    ) -> None:
        """Nothing is received yet. `kept` takes the times of steps, `watch` the threads' stages."""
        self._watch = watch
        self._kept = kept
        self._keeper = ThreadPoolExecutor(1, "keeper")
        self._generator = generator
        self._gallery = gallery
        self._link = link
        self._assigned: queue.PriorityQueue[tuple[bool, int, Task]] = queue.PriorityQueue()
        self._inbox: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._tasks: dict[str, Task] = {}
        self._ready: list[Readied] = []
        self._running: dict[Sample, Task] = {}
        self._drawn: list[tuple[Task, Plan, Reading]] = []
        self._lookups = generator.conditioner.lookups
        self._stopping = False
        self._ahead = threading.Semaphore(generator.places)
        self._reports = Reports(link, self._preview)
        self._finishing = Finishing(generator, gallery, watch, self._free, self._finished)

    def run(self) -> None:
        """Make jobs, as many at once as the generator has places, until `stop`.

        Raises what a shared call raises, DeviceError of any thread, and LinkError.
        """
        # Nobody waits for these at the end: one of them may be in a text encoder.
        threading.Thread(target=self._receive, name="receiver", daemon=True).start()
        threading.Thread(target=self._make_ready, name="admission", daemon=True).start()
        self._link.send(Vacant(self._generator.places))
        while self._take_orders(wait=True):
            for events in self._watched(self._generator.turns(self._arrivals)):
                for event in events:
                    self._stepped(event)
                if not self._take_orders(wait=False):
                    break
            if news := self._generator.schedule.costs.news():
                self._keeper.submit(self._kept.write, news)
        self._leave()

    def _watched(self, turns: Iterator[Sequence[StepEvent]]) -> Iterator[Sequence[StepEvent]]:
        """The turns, each a stage: with a change of LoRAs, and with new pictures' admission."""
        while True:
            tasks = (*self._running.values(), *(ready.task for ready in self._ready))
            largest = max((task.pixels for task in tasks), default=0)
            with self._watch.stage("a step", pixels=largest):
                events = next(turns, None)
            if events is None:
                return
            yield events

    def stop(self) -> None:
        """Begin nothing more and let `run` return soon. May be called from a signal handler."""
        self._inbox.put(Stop())

    def _receive(self) -> None:
        try:
            for number in count():
                match self._link.receive():
                    case Assignment(job_id, request, waited):
                        self._tasks[job_id] = task = Task(job_id, request, waited)
                        self._assigned.put((not task.urgent, number, task))
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
            self._take(self._next_notice())
        return not self._stopping

    def _next_notice(self) -> Notice:
        """Wait for the next notice. Where there is nothing else to do, warm LoRAs up, and later
        give memory back.
        """
        while self._generator.cold:
            with suppress(queue.Empty):
                return self._inbox.get(timeout=IDLE_SECONDS)
            # A job whose prompts are being encoded is none that waits for nothing.
            if not self._tasks:
                with self._watch.stage("warming up LoRAs"):
                    self._generator.warm_up_loras()
        while self._generator.keeps_memory:
            with suppress(queue.Empty):
                return self._inbox.get(timeout=REST_SECONDS)
            if not self._tasks:
                with self._watch.stage("giving memory back"):
                    self._generator.rest()
        return self._inbox.get()

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
        if task.drawn:
            return  # Those who finish it report either a cancel or a picture.
        if task.sample is not None:
            task.sample.canceled = True
            del self._running[task.sample]
        # A task without a sample is skipped by the admission thread or by `_arrivals`.
        self._end(task, Canceled(job_id))
        self._free(task)

    def _make_ready(self) -> None:
        """The admission thread: prepare the pictures of tasks, interactive ones first."""
        while True:
            *_, task = self._assigned.get()
            if not (task.canceled or self._stopping):
                self._prepare(task)

    def _prepare(self, task: Task) -> None:
        self._link.send(Risk(task.job_id, over=False))
        try:
            model = self._generator.model
            with self._watch.stage("encoding the prompts", task.job_id, task.pixels):
                picture = self._generator.prepare(model.plan(model.read(task.request)))
            self._link.send(Risk(task.job_id, over=True))
        except DeviceError as error:
            self._inbox.put(Lost(error))
        except Exception as error:
            self._inbox.put(Refused(task, error))
        else:
            picture.arrived = task.arrived
            self._report_lookups()
            self._inbox.put(Readied(task, picture))

    def _report_lookups(self) -> None:
        before, self._lookups = self._lookups, self._generator.conditioner.lookups
        made = self._lookups.since(before)
        self._reports.say(Conditioned(made.hits, made.misses, made.seconds))

    def _arrivals(self, free: int) -> Sequence[Sample]:
        """Hand pictures that are ready to the denoiser, as many as there are places free; an
        interactive one also takes the place of one of batch priority, which waits beside it.
        """
        admitted: list[Sample] = []
        while (ready := self._next_ready(free - len(admitted))) is not None:
            task = ready.task
            self._link.send(Risk(task.job_id, over=False))
            try:
                task.sample = sample = self._generator.admit(ready.picture)
            except DeviceError:
                raise
            except Exception as error:
                self._refuse(task, error)
                continue
            self._generator.pace.wanted(task.assigned_at)
            task.last_step_at = time.perf_counter()
            self._running[sample] = task
            admitted.append(sample)
        # Only now: threads that begin with a picture would take Python from this one.
        self._finish_drawn()
        return admitted

    def _next_ready(self, free: int) -> Readied | None:
        """Take the first picture that is ready and has a place; None for none."""
        self._ready = [ready for ready in self._ready if not ready.task.canceled]
        found = min(self._ready, key=lambda ready: not ready.task.urgent, default=None)
        if found is None:
            return None
        if found.task.urgent:
            free += sum(not task.urgent for task in self._running.values())
        if free <= 0:
            return None
        self._ready.remove(found)
        return found

    def _finish_drawn(self) -> None:
        for task, plan, latents in self._drawn:
            self._finishing.begin(task, plan, latents)
        self._drawn.clear()

    def _refuse(self, task: Task, error: Exception) -> None:
        """End a task that has no sample; its place is free again."""
        if not task.canceled:
            self._fail(task, error)
            self._free(task)

    def _stepped(self, event: StepEvent) -> None:
        task, sample = self._running[event.sample], event.sample
        now = time.perf_counter()
        seconds, task.last_step_at = now - task.last_step_at, now
        wish = None
        if sample.plan.wants_preview(event.step):
            wish = Wish(task, self._generator.reading_predicted(sample))
        self._reports.stepped(Stepped(task.job_id, event.step, seconds), wish)
        if (event.total_steps - event.step) * seconds <= LEAD_SECONDS:
            self._ask_ahead(task)
        if event.finished:
            del self._running[sample]
            self._report_pace()
            task.drawn = True
            self._drawn.append((task, sample.plan, self._generator.reading(sample)))

    def _report_pace(self) -> None:
        pace = self._generator.pace
        self._reports.say(
            Paced(
                pace.calls,
                pace.host_seconds,
                pace.starts,
                pace.idle_seconds,
                lora_changes=pace.lora_changes,
                lora_seconds=pace.lora_seconds,
                batches={str(samples): calls for samples, calls in pace.batches.items()},
            )
        )
        self._reports.say(Timed({"step": [round(each, 6) for each in pace.call_seconds]}))
        pace.restart()

    def _ask_ahead(self, task: Task) -> None:
        """Let a job be assigned in the place of one that is nearly drawn."""
        if not task.replaced and self._ahead.acquire(blocking=False):
            task.replaced = True
            self._reports.say(Vacant(1))

    def _free(self, task: Task) -> None:
        """A task has left its place, for which another job may have been asked ahead."""
        if task.replaced:
            self._ahead.release()
        else:
            self._reports.say(Vacant(1))

    def _preview(self, wish: Wish) -> bytes:
        task = wish.task
        size = (task.request["width"], task.request["height"])
        try:
            with self._watch.stage("a preview", task.job_id, task.pixels):
                latents = wish.predicted()
                return b"" if task.canceled else self._generator.previewer.jpeg(latents, *size)
        except DeviceError as error:
            self._inbox.put(Lost(error))
            return b""
        except Exception:
            logger.exception("no preview", extra={"job_id": task.job_id})
            return b""

    def _finished(self, task: Task, result: Completed | Canceled | Exception) -> None:
        match result:
            case DeviceError():
                self._inbox.put(Lost(result))
            case OSError(errno=int()):
                # The errors of a picture's files alone; a name of theirs is nothing for clients.
                reason = result.strerror or type(result).__name__
                about = {"job_id": task.job_id}
                logger.error("the picture cannot be saved: %s", result, extra=about)
                self._end(task, Unsaved(task.job_id, reason))
            case Exception():
                self._fail(task, result)
            case done:
                self._end(task, done)

    def _fail(self, task: Task, error: Exception) -> None:
        refused = isinstance(error, RequestError)
        known = isinstance(error, RequestError | PictureError)
        about = {"job_id": task.job_id}
        logger.warning("the job failed: %s", error, exc_info=not known, extra=about)
        title = "The request cannot be served" if refused else "The picture could not be made"
        detail = in_one_line(error) or type(error).__name__
        self._end(task, Failed(task.job_id, title, detail))

    def _end(self, task: Task, last: Message) -> None:
        self._tasks.pop(task.job_id, None)
        self._reports.say(Timed(self._watch.ended()))
        self._reports.ended(task.job_id, last)

    def _leave(self) -> None:
        """Finish the picture that is being written; the server takes all other jobs back."""
        self._finish_drawn()
        self._reports.say(Leaving())
        self._finishing.close()
        # A file that is half written when the process ends would stay in the data folder.
        self._keeper.shutdown()
        self._reports.close()

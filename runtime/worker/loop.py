"""The process that owns a device: takes jobs from the server, makes their pictures, reports.

The loop's thread uses the denoiser, and no other thread does: it makes steps, and between two of
them takes in the pictures that are ready and puts LoRA sets on. The admission thread makes pictures
ready, interactive ones first and else in the order of their assignment: it plans requests, runs the
text encoders, draws noise and computes the weights of LoRAs. `reports.py` has the threads that send
reports and make previews, `finishing.py` those that decode finished latents and write the picture
files.

Of several models (`shelf.py`) those are loaded that jobs want and the memory holds. A job of
another waits while the loader's thread gives models up that no job wants, the least recently used
first, and loads its own; the loop goes on meanwhile. `turns.py` says whose call is next.

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
from functools import partial
from itertools import count

from runtime.backends.protocol import Reading
from runtime.draw.denoise import Prepared, Sample, StepEvent
from runtime.draw.generate import Generator
from runtime.draw.pace import Pace
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
from runtime.worker.loading import (
    Freed,
    Loading,
    LoadingError,
    News,
    NotOpened,
    Surveyed,
    WasOpened,
)
from runtime.worker.opening import Opened, Opener
from runtime.worker.pulse import EXIT_SERVER_GONE
from runtime.worker.reports import Reports, Wish
from runtime.worker.shelf import Shelf
from runtime.worker.task import Task
from runtime.worker.turns import Turns, claim_of
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """In the inbox: the model of a task was not loaded when the task came."""

    task: Task


Notice = Message | Readied | Refused | Lost | Stop | Wanted | News
"""The entries of the inbox, which the loop's thread reads between two turns."""


class Worker:
    """Draws the jobs that come through a link."""

    def __init__(
        self,
        first: Opened,
        opener: Opener,
        gallery: Gallery,
        link: WorkerLink,
        watch: Watch,
    ) -> None:
        """Nothing is received yet. `first` is the model that is loaded, `opener` loads others;
        `watch` takes the threads' stages.
        """
        self._watch = watch
        self._keeper = ThreadPoolExecutor(1, "keeper")
        self._first = first.name
        self._places = first.generator.places
        self._gallery = gallery
        self._link = link
        self._assigned: queue.PriorityQueue[tuple[bool, int, Task]] = queue.PriorityQueue()
        self._inbox: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._tasks: dict[str, Task] = {}
        self._ready: list[Readied] = []
        self._running: dict[Sample, Task] = {}
        self._drawn: list[tuple[Task, Plan, Reading]] = []
        self._numbers = count()
        self._stopping = False
        self._ahead = threading.Semaphore(self._places)
        self._reports = Reports(link, self._preview)
        self._finishing = Finishing(gallery, watch, self._free, self._finished)
        self._shelf = Shelf(first)
        self._loading = Loading(self._shelf, opener, self._inbox.put, self._reports.say)
        self._order = Turns()

    def run(self) -> None:
        """Make jobs, as many at once as the first model has places, until `stop`.

        Raises what a shared call raises, DeviceError of any thread, and LinkError.
        """
        # Nobody waits for these at the end: one of them may be in a text encoder.
        threading.Thread(target=self._receive, name="receiver", daemon=True).start()
        threading.Thread(target=self._make_ready, name="admission", daemon=True).start()
        self._link.send(Vacant(self._places))
        self._loading.begin()
        while self._take_orders(wait=True):
            for events in self._turns():
                for event in events:
                    self._stepped(event)
                if not self._take_orders(wait=False):
                    break
            for opened in self._shelf.loaded:
                if news := opened.generator.schedule.costs.news():
                    self._keeper.submit(opened.kept.write, news)
        self._leave()

    def _turns(self) -> Iterator[Sequence[StepEvent]]:
        """The turns of all models, until there is no picture in any."""
        while (opened := self._next_model()) is not None:
            yield self._turn(opened)

    def _next_model(self) -> Opened | None:
        """The model whose turn it is; None where none has pictures."""
        wanted = {ready.task.model for ready in self._ready}
        active = [
            each for each in self._shelf.loaded if each.turns is not None or each.name in wanted
        ]
        if len(active) < 2:
            return active[0] if active else None
        claims = [claim_of(self._tasks_of(each)) for each in active]
        # One without pictures only has to leave its loop.
        return active[self._order.next(claims)]

    def _tasks_of(self, opened: Opened) -> list[Task]:
        """The tasks of a model whose pictures are being drawn, or are ready for that."""
        tasks = (*self._running.values(), *(ready.task for ready in self._ready))
        return [task for task in tasks if task.model == opened.name]

    def _turn(self, opened: Opened) -> Sequence[StepEvent]:
        """One turn of a model, as a stage: with a change of LoRAs, and new pictures' admission."""
        if opened.turns is None:
            opened.turns = opened.generator.turns(partial(self._arrivals, opened))
        tasks = self._tasks_of(opened)
        largest = max((task.pixels for task in tasks), default=0)
        with self._watch.stage("a step", pixels=largest):
            began = time.perf_counter()
            events = next(opened.turns, None)
            self._order.called(claim_of(tasks), time.perf_counter() - began)
        if events is None:
            opened.turns = None
            return ()
        return events

    def stop(self) -> None:
        """Begin nothing more and let `run` return soon. May be called from a signal handler."""
        self._inbox.put(Stop())

    def _receive(self) -> None:
        try:
            while True:
                match self._link.receive():
                    case Assignment(job_id, request, waited, model):
                        task = Task(job_id, request, waited, model or self._first)
                        self._tasks[job_id] = task
                        if self._shelf.hold(task.model):
                            self._admit(task)
                        else:
                            self._inbox.put(Wanted(task))
                    case message:
                        self._inbox.put(message)
        except LinkError:
            # Nobody is left to report to, and whoever comes next starts a worker of its own.
            os._exit(EXIT_SERVER_GONE)

    def _admit(self, task: Task) -> None:
        """Hand a task whose model is loaded to the admission thread."""
        self._assigned.put((not task.urgent, next(self._numbers), task))

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
        while cold := [each for each in self._generators if each.cold]:
            with suppress(queue.Empty):
                return self._inbox.get(timeout=IDLE_SECONDS)
            # A job whose prompts are being encoded is none that waits for nothing.
            if not self._tasks:
                with self._watch.stage("warming up LoRAs"):
                    cold[0].warm_up_loras()
        while keeping := [each for each in self._generators if each.keeps_memory]:
            with suppress(queue.Empty):
                return self._inbox.get(timeout=REST_SECONDS)
            if not self._tasks:
                with self._watch.stage("giving memory back"):
                    keeping[0].rest()
        return self._inbox.get()

    @property
    def _generators(self) -> Sequence[Generator]:
        return [opened.generator for opened in self._shelf.loaded]

    def _take(self, notice: Notice) -> None:
        match notice:
            case Cancel(job_id):
                self._cancel(job_id)
            case Readied():
                self._ready.append(notice)
            case Refused(task, error):
                self._refuse(task, error)
            case Wanted(task):
                # It may have been loaded meanwhile.
                if self._shelf.find(task.model):
                    self._admit(task)
                else:
                    self._loading.want(task)
            case Surveyed() | WasOpened() | NotOpened() | Freed():
                self._hear(notice)
            case Stop():
                self._stopping = True
            case Lost(error):
                raise error
            case message:
                raise LinkError(f"{type(message).__name__} is nothing that a server says")

    def _hear(self, news: News) -> None:
        """Go on after news of the loader's."""
        if isinstance(news, NotOpened) and not isinstance(news.error, LoadingError):
            raise news.error
        for task in self._loading.hear(news):
            if isinstance(news, NotOpened):
                self._refuse(task, news.error)
            else:
                self._admit(task)

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
            # A task that was canceled holds its model no more, which may have gone.
            opened = self._shelf.hold(task.model)
            if opened and not (task.canceled or self._stopping):
                self._prepare(task, opened)
            self._release(task)

    def _prepare(self, task: Task, opened: Opened) -> None:
        self._link.send(Risk(task.job_id, over=False))
        task.generator = generator = opened.generator
        try:
            model = generator.model
            with self._watch.stage("encoding the prompts", task.job_id, task.pixels):
                picture = generator.prepare(model.plan(model.read(task.request)))
            self._link.send(Risk(task.job_id, over=True))
        except DeviceError as error:
            self._inbox.put(Lost(error))
        except Exception as error:
            self._inbox.put(Refused(task, error))
        else:
            picture.arrived = task.arrived
            self._report_lookups(opened)
            self._inbox.put(Readied(task, picture))

    def _report_lookups(self, opened: Opened) -> None:
        before, opened.lookups = opened.lookups, opened.generator.conditioner.lookups
        made = opened.lookups.since(before)
        self._reports.say(Conditioned(made.hits, made.misses, made.seconds))

    def _arrivals(self, opened: Opened, free: int) -> Sequence[Sample]:
        """Hand a model's pictures that are ready to its denoiser, as many as there are places free;
        an interactive one also takes the place of one of batch priority, which waits beside it.
        """
        admitted: list[Sample] = []
        generator = opened.generator
        while (ready := self._next_ready(opened, free - len(admitted))) is not None:
            task = ready.task
            self._link.send(Risk(task.job_id, over=False))
            try:
                task.sample = sample = generator.admit(ready.picture)
            except DeviceError:
                raise
            except Exception as error:
                self._refuse(task, error)
                continue
            generator.pace.wanted(task.assigned_at)
            task.last_step_at = time.perf_counter()
            self._running[sample] = task
            admitted.append(sample)
        # Only now: threads that begin with a picture would take Python from this one.
        self._finish_drawn()
        return admitted

    def _next_ready(self, opened: Opened, free: int) -> Readied | None:
        """Take the first picture of a model that is ready and has a place; None for none."""
        self._ready = [ready for ready in self._ready if not ready.task.canceled]
        own = [ready for ready in self._ready if ready.task.model == opened.name]
        found = min(own, key=lambda ready: not ready.task.urgent, default=None)
        if found is None:
            return None
        if found.task.urgent:
            running = [task for task in self._running.values() if task.model == opened.name]
            free += sum(not task.urgent for task in running)
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
        generator = task.generator
        now = time.perf_counter()
        seconds, task.last_step_at = now - task.last_step_at, now
        wish = None
        if sample.plan.wants_preview(event.step):
            wish = Wish(task, generator.reading_predicted(sample))
        self._reports.stepped(Stepped(task.job_id, event.step, seconds), wish)
        if (event.total_steps - event.step) * seconds <= LEAD_SECONDS:
            self._ask_ahead(task)
        if event.finished:
            del self._running[sample]
            self._report_pace(generator.pace)
            task.drawn = True
            self._drawn.append((task, sample.plan, generator.reading(sample)))

    def _report_pace(self, pace: Pace) -> None:
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
        # Its job may have ended since, and its model may have gone.
        opened = self._shelf.hold(task.model)
        try:
            return self._shown(wish, opened.generator) if opened else b""
        finally:
            self._release(task)

    def _shown(self, wish: Wish, generator: Generator) -> bytes:
        task = wish.task
        size = (task.request["width"], task.request["height"])
        try:
            with self._watch.stage("a preview", task.job_id, task.pixels):
                latents = wish.predicted()
                return b"" if task.canceled else generator.previewer.jpeg(latents, *size)
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
        if isinstance(error, LoadingError):
            title = "The model could not be loaded"
        detail = in_one_line(error) or type(error).__name__
        self._end(task, Failed(task.job_id, title, detail))

    def _end(self, task: Task, last: Message) -> None:
        self._tasks.pop(task.job_id, None)
        self._release(task)
        self._reports.say(Timed(self._watch.ended()))
        self._reports.ended(task.job_id, last)

    def _release(self, task: Task) -> None:
        """Take back a hold on the task's model; another may be waiting for its memory."""
        self._shelf.release(task.model)
        if self._loading.waits:
            self._inbox.put(Freed())

    def _leave(self) -> None:
        """Finish the picture that is being written; the server takes all other jobs back."""
        self._finish_drawn()
        self._reports.say(Leaving())
        self._finishing.close()
        # A file that is half written when the process ends would stay in the data folder.
        self._keeper.shutdown()
        self._reports.close()

"""Reports of jobs whose previews fall behind, through a link that only listens."""

import queue
import threading
from typing import cast

import numpy as np

from runtime.wire.link import WorkerLink
from runtime.wire.messages import Canceled, Message, Stepped, Vacant
from runtime.worker.reports import Reports, Wish
from runtime.worker.task import Task

PATIENCE = 60.0


class Previews:
    """Reports whose previews are made when the test says so."""

    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.begun: queue.SimpleQueue[str] = queue.SimpleQueue()
        """The jobs whose previews are made, in order."""
        self.may_end = threading.Semaphore(0)
        self.reports = Reports(cast(WorkerLink, self), self._made)

    def send(self, message: Message) -> None:
        """As a link's."""
        self.heard.put(message)

    def step(self, job_id: str, step: int, priority: str = "interactive") -> None:
        """A job has finished a step, with a preview."""
        task = Task(job_id, {"width": 64, "height": 64, "priority": priority}, 0.0)
        wish = Wish(task, lambda: np.zeros((1, 1, 1, 1), np.float32))
        self.reports.stepped(Stepped(job_id, step, 0.0), wish)

    def all_taken(self) -> list[Message]:
        """Wait until all that was handed over is taken; the messages since the last time."""
        self.reports.say(Vacant(1))
        return [*iter(lambda: self.heard.get(timeout=PATIENCE), Vacant(1))]

    def next_begun(self) -> str:
        """Wait for the next preview that is begun."""
        return self.begun.get(timeout=PATIENCE)

    def _made(self, wish: Wish) -> bytes:
        self.begun.put(wish.task.job_id)
        assert self.may_end.acquire(timeout=PATIENCE)
        return b"jpeg"


def test_jobs_that_step_together_take_turns_at_slow_previews() -> None:
    previews = Previews()
    begun = []
    for step in range(1, 10, 2):
        for job_id in ("a", "b", "c"):
            previews.step(job_id, step)
        for job_id in ("a", "b", "c"):
            previews.step(job_id, step + 1)
        previews.all_taken()
        begun.append(previews.next_begun())
        previews.may_end.release()
    assert begun == ["a", "b", "c", "a", "b"]
    previews.may_end.release(3)
    previews.reports.close()


def test_nothing_is_kept_of_a_job_that_ended_and_nothing_follows_its_end() -> None:
    previews = Previews()
    for step in (1, 2):
        previews.step("a", step)
        previews.step("b", step)
    assert previews.next_begun() == "a"
    for job_id in ("a", "b"):
        previews.reports.ended(job_id, Canceled(job_id))
    previews.step("c", 1)
    previews.may_end.release()
    assert previews.next_begun() == "c"
    previews.may_end.release()
    heard = previews.all_taken()
    previews.reports.close()
    while not previews.heard.empty():
        heard.append(previews.heard.get())
    for job_id in ("a", "b"):
        of_job = [each for each in heard if getattr(each, "job_id", None) == job_id]
        assert [type(each).__name__ for each in of_job] == ["Stepped", "Stepped", "Canceled"]


def test_an_interactive_job_has_its_preview_before_those_of_batch_priority() -> None:
    previews = Previews()
    for job_id in ("a", "b", "c"):
        previews.step(job_id, 1, "batch")
    assert previews.next_begun() == "a"
    previews.step("soon", 1)
    previews.all_taken()
    begun = []
    for _ in range(3):
        previews.may_end.release()
        begun.append(previews.next_begun())
    assert begun == ["soon", "b", "c"]
    previews.may_end.release()
    previews.reports.close()

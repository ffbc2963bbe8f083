"""Finished pictures: their files, their ends, and places that are given back once."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from runtime.draw.decode import Pixels
from runtime.draw.generate import Generator
from runtime.gallery import Gallery
from runtime.plan.model import open_model
from runtime.wire.messages import Canceled, Completed
from runtime.worker.finishing import DECODED_AHEAD, Finishing
from runtime.worker.task import Task
from runtime.worker.watch import Limits, Watch
from tests.fakes.scripted_worker import ENGINES

PATIENCE = 60.0
MODEL = open_model(ENGINES, "demo")
PLAN = MODEL.plan(MODEL.read({"prompt": "x", "seed": 1, "steps": 2, "width": 64, "height": 64}))
WATCH = Watch(Limits(PATIENCE, PATIENCE))
LATENTS = np.zeros((1, 4, 8, 8), np.float32)


class Finished:
    """Finishes pictures of grey pixels; knows what was told of them."""

    def __init__(self, folder: Path, decode: Callable[[Any], Pixels], tiled: str = "") -> None:
        self.gallery = Gallery(folder)
        self.begun: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[object] = queue.SimpleQueue()
        generator = cast(
            Generator, SimpleNamespace(model=MODEL, decode=decode, tiled=lambda _: tiled)
        )
        self.generator = generator
        self.finishing = Finishing(
            self.gallery, WATCH, self.begun.put, lambda _, end: self.ended.put(end)
        )

    def begin(self, number: int = 0, priority: str = "interactive") -> Task:
        """Finish another picture."""
        request = {"width": 64, "height": 64, "priority": priority}
        task = Task(f"{number:032x}", request, 0.0)
        task.generator = self.generator
        self.finishing.begin(task, PLAN, lambda: LATENTS)
        return task

    def end(self) -> object:
        """The next end."""
        return self.ended.get(timeout=PATIENCE)


def grey(_: object) -> Pixels:
    """Of any latents."""
    return np.full((64, 64, 3), 99, np.uint8)


def test_a_picture_that_cannot_be_written_leaves_no_thumbnail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = threading.Event()
    add_thumbnail = Gallery.add_thumbnail

    def told(self: Gallery, filename: str, content: bytes) -> None:
        add_thumbnail(self, filename, content)
        there.set()

    def full(self: Gallery, filename: str, content: bytes) -> None:
        assert there.wait(PATIENCE)
        raise OSError(28, "No space left on device")

    finished = Finished(tmp_path, grey)
    with monkeypatch.context() as patched:
        patched.setattr(Gallery, "add_picture", full)
        patched.setattr(Gallery, "add_thumbnail", told)
        finished.begin()
        assert isinstance(finished.end(), OSError)
    assert list(finished.gallery.names()) == []
    finished.begin()
    assert isinstance(finished.end(), Completed)
    assert len(list(finished.gallery.names())) == 1
    finished.finishing.close()


def test_a_job_that_is_canceled_while_it_is_decoded_leaves_no_file(tmp_path: Path) -> None:
    decoding, go_on = threading.Event(), threading.Event()

    def decode(latents: object) -> Pixels:
        decoding.set()
        assert go_on.wait(PATIENCE)
        return grey(latents)

    finished = Finished(tmp_path, decode)
    task = finished.begin()
    assert decoding.wait(PATIENCE)
    task.canceled = True
    go_on.set()
    assert finished.end() == Canceled(task.job_id)
    assert list(finished.gallery.names()) == []
    finished.finishing.close()


def test_stopping_finishes_the_picture_that_is_written_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()
    add_picture = Gallery.add_picture

    def slow(self: Gallery, filename: str, content: bytes) -> None:
        writing.set()
        assert go_on.wait(PATIENCE)
        add_picture(self, filename, content)

    monkeypatch.setattr(Gallery, "add_picture", slow)
    finished = Finished(tmp_path, grey)
    tasks = [finished.begin(number) for number in range(DECODED_AHEAD + 4)]
    assert writing.wait(PATIENCE)
    begun = [finished.begun.get(timeout=PATIENCE) for _ in range(DECODED_AHEAD)]
    assert begun == tasks[:DECODED_AHEAD]
    writer = finished.finishing._interactive.pictures
    shutdown = writer.shutdown

    def cancel_and_wait(*, cancel_futures: bool) -> None:
        shutdown(wait=False, cancel_futures=cancel_futures)
        go_on.set()
        shutdown()

    monkeypatch.setattr(writer, "shutdown", cancel_and_wait)
    closing = threading.Thread(target=finished.finishing.close)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert isinstance(finished.end(), Completed)
    assert finished.ended.empty()


def test_tiles_are_told_with_the_picture(tmp_path: Path) -> None:
    for sentence, warnings in (("in tiles", ["in tiles"]), ("", [])):
        finished = Finished(tmp_path, grey, sentence)
        finished.begin()
        end = finished.end()
        assert isinstance(end, Completed)
        assert end.warnings == warnings
        finished.finishing.close()


def test_interactive_pictures_are_decoded_and_written_before_those_of_batch_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Semaphore(0), threading.Event()
    add_picture = Gallery.add_picture

    def slow(self: Gallery, filename: str, content: bytes) -> None:
        if int(filename[:32], 16) < 10:
            writing.release()
            assert go_on.wait(PATIENCE)
        add_picture(self, filename, content)

    monkeypatch.setattr(Gallery, "add_picture", slow)
    finished = Finished(tmp_path, grey)
    batch = [finished.begin(number, "batch") for number in range(DECODED_AHEAD + 2)]
    assert writing.acquire(timeout=PATIENCE)
    soon = [finished.begin(number) for number in (10, 11, 12)]
    ends = [finished.end() for _ in soon]
    assert [end.job_id for end in ends if isinstance(end, Completed)] == [t.job_id for t in soon]
    go_on.set()
    ends = [finished.end() for _ in batch]
    assert [end.job_id for end in ends if isinstance(end, Completed)] == [t.job_id for t in batch]
    finished.finishing.close()

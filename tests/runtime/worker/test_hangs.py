"""A thread of the worker that never comes back ends the worker, and the reason names the stage."""

from functools import partial
from pathlib import Path

import pytest

from runtime.plan.model import open_model
from runtime.wire.messages import Assignment, Broken, Message, Ready, Vacant
from runtime.worker.pulse import EXIT_STALLED
from tests.fakes.scripted_worker import ENGINES, PATIENCE, scripted_worker

# The seams at which a worker may wait for ever, once its warm-up is over or before.
HANG = """
import sys, threading
from runtime.backends.host_denoiser import HostDenoiser
from runtime.draw.conditioning import Conditioner
from runtime.draw.generate import Generator
from runtime.draw.preview import Previewer
from runtime.gallery import Gallery
from runtime.worker.main import leave, main

where = {
    "load": (Generator, "warm_up"),
    "steps": (HostDenoiser, "advance"),
    "text": (Conditioner, "of"),
    "vae": (Generator, "decode"),
    "preview": (Previewer, "jpeg"),
    "saving": (Gallery, "add_picture"),
}
kind, method = where[sys.argv[1]]
warm_up = Generator.warm_up

def hang(*_):
    threading.Event().wait()

def hang_from_now_on(self):
    warm_up(self)
    self.warm_up_loras()
    setattr(kind, method, hang)

Generator.warm_up = hang if sys.argv[1] == "load" else hang_from_now_on
leave(main(sys.argv[2:]))
"""

JOB = "0" * 32
STAGES = {
    "load": "warming up has taken",
    "steps": "a step has taken",
    "text": f"encoding the prompts of job {JOB} has taken",
    "vae": f"decoding of job {JOB} has taken",
    "preview": f"a preview of job {JOB} has taken",
    "saving": f"saving the picture of job {JOB} has taken",
}


@pytest.mark.parametrize("where", STAGES)
def test_it_ends_the_worker_with_the_stage_that_hangs(where: str, tmp_path: Path) -> None:
    fields = {"prompt": "x", "seed": 1, "steps": 4, "width": 64, "height": 64}
    request = open_model(ENGINES, "demo").read(fields).to_json()
    worker_of = partial(scripted_worker, load_seconds=8.0, lease_seconds=1.0)
    with worker_of(HANG, tmp_path, where) as (worker, link):
        said: list[Message] = []
        # A picture whose preview hangs is made all the same.
        while not (said and isinstance(said[-1], Broken)):
            said.append(link.receive())
            if isinstance(said[-1], Ready):
                link.send(Assignment(JOB, request))
        assert isinstance(said[-1], Broken)
        assert said[-1].detail.startswith(STAGES[where])
        assert not said[-1].lasting
        assert worker.wait(PATIENCE) == EXIT_STALLED


# The thread that makes jobs ready ends by a fault that is none of a job's.
DIE = """
import sys
from runtime.worker.loop import Worker
from runtime.worker.main import leave, main

def die(self):
    self._assigned.get()
    raise MemoryError("no memory for a thread")

Worker._make_ready = die
leave(main(sys.argv[1:]))
"""


def test_a_thread_that_ends_ends_the_worker(tmp_path: Path) -> None:
    request = open_model(ENGINES, "demo").read({"prompt": "x", "seed": 1}).to_json()
    with scripted_worker(DIE, tmp_path) as (worker, link):
        said: list[Message] = []
        while not (said and isinstance(said[-1], Broken)):
            said.append(link.receive())
            if isinstance(said[-1], Vacant):
                link.send(Assignment(JOB, request))
        assert said[-1] == Broken("admission: no memory for a thread", lasting=False)
        assert worker.wait(PATIENCE) == 1

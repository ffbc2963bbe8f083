"""Pictures are made ready beside the steps of others: one whose text encoder waits at a gate."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from runtime.plan.model import open_model
from runtime.wire.link import WorkerLink
from runtime.wire.messages import (
    Assignment,
    Cancel,
    Canceled,
    Completed,
    Failed,
    Leaving,
    LinkError,
    Message,
    Ready,
    Risk,
    Stepped,
    Vacant,
)
from tests.fakes.scripted_worker import ENGINES, PATIENCE, scripted_worker

# Once a first step is made, the next text to be encoded waits at the gate, a named pipe, and no
# other step is made before a text is there. What comes through the gate is an error, or nothing.
ENCODE_AT_A_GATE = """
import sys, threading
from pathlib import Path
from runtime.backends.host_denoiser import HostDenoiser
from runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from runtime.draw.generate import Generator
from runtime.errors import BackendError
from runtime.worker.main import leave, main

gate = Path(sys.argv[1])
warm_up, advance, opened = Generator.warm_up, HostDenoiser.advance, OnnxRuntimeCpu.open
drawing, encoding = threading.Event(), threading.Event()

class AtTheGate:
    def __init__(self, engine):
        self._engine, self.replace_weights = engine, engine.replace_weights
        self.close = engine.close

    def start(self, inputs):
        if drawing.is_set() and not encoding.is_set():
            encoding.set()
            if error := gate.read_text():
                raise BackendError(error)
        return self._engine.start(inputs)

def open_at_the_gate(self, role):
    engine = opened(self, role)
    return AtTheGate(engine) if role == "text_encoder" else engine

def advance_beside(self, rows):
    if drawing.is_set():
        encoding.wait()
    advance(self, rows)
    drawing.set()

def beside_from_now_on(self):
    warm_up(self)
    self.warm_up_loras()
    HostDenoiser.advance = advance_beside

OnnxRuntimeCpu.open, Generator.warm_up = open_at_the_gate, beside_from_now_on
leave(main(sys.argv[2:]))
"""

# Jobs are asked for as early as can be, and once warm no picture is decoded before a word comes
# through the gate.
DECODE_AT_A_GATE = """
import sys
from pathlib import Path
from runtime.draw.generate import Generator
from runtime.worker import loop
from runtime.worker.main import leave, main

gate = Path(sys.argv[1])
warm_up, decode = Generator.warm_up, Generator.decode

def decode_at_the_gate(self, latents):
    gate.read_text()
    return decode(self, latents)

def at_the_gate_from_now_on(self):
    warm_up(self)
    Generator.decode = decode_at_the_gate

Generator.warm_up, loop.LEAD_SECONDS = at_the_gate_from_now_on, 1e9
leave(main(sys.argv[2:]))
"""

PLAIN = """
import sys
from runtime.worker.main import leave, main

leave(main(sys.argv[1:]))
"""

DRAWN, AT_THE_GATE, LATER = "a" * 32, "b" * 32, "c" * 32


@dataclass
class Server:
    """A worker's orders and reports, and the gate at which its second job waits."""

    worker: Popen[bytes]
    link: WorkerLink
    gate: Path
    said: list[Message] = field(default_factory=list)

    def assign(self, job_id: str, **more: int | str) -> None:
        """A job with a prompt of its own."""
        fields = {"prompt": job_id, "seed": 1, "steps": 4, "width": 64, "height": 64, **more}
        request = open_model(ENGINES, "demo").read(fields).to_json()
        self.link.send(Assignment(job_id, request))

    def hear_until(self, *expected: type[Message], job_id: str) -> Message:
        """Take in what the worker says, until that is said of a job."""
        while not any(isinstance(each, expected) for each in self.about(job_id)):
            self.said.append(self.link.receive())
        return next(each for each in self.about(job_id) if isinstance(each, expected))

    def about(self, job_id: str) -> list[Any]:
        """The reports about a job's progress and its end."""
        reports = [each for each in self.said if not isinstance(each, Risk)]
        return [each for each in reports if getattr(each, "job_id", None) == job_id]

    @property
    def vacancies(self) -> list[int]:
        """How many jobs more it could take, each time that it said so."""
        return [each.count for each in self.said if isinstance(each, Vacant)]


@contextmanager
def one_drawn_one_at_the_gate(folder: Path) -> Iterator[Server]:
    """Two jobs: steps of the first are made while the second one's text is at the gate."""
    gate = folder / "gate"
    os.mkfifo(gate)
    with scripted_worker(ENCODE_AT_A_GATE, folder / "data", str(gate)) as (worker, link):
        server = Server(worker, link, gate)
        while not any(isinstance(each, Ready) for each in server.said):
            server.said.append(link.receive())
        server.assign(DRAWN)
        server.hear_until(Stepped, job_id=DRAWN)
        server.assign(AT_THE_GATE)
        server.hear_until(Completed, job_id=DRAWN)
        assert not server.about(AT_THE_GATE)
        yield server


def test_a_picture_is_drawn_while_the_text_of_another_is_encoded(tmp_path: Path) -> None:
    with one_drawn_one_at_the_gate(tmp_path) as server:
        server.gate.write_text("")
        server.hear_until(Completed, job_id=AT_THE_GATE)
        steps = [each.step for each in server.about(AT_THE_GATE) if isinstance(each, Stepped)]
        assert steps == [1, 2, 3, 4]
        assert server.vacancies[1:] == [1, 1]


def test_a_job_is_canceled_while_its_text_is_encoded(tmp_path: Path) -> None:
    with one_drawn_one_at_the_gate(tmp_path) as server:
        server.link.send(Cancel(AT_THE_GATE))
        server.hear_until(Canceled, job_id=AT_THE_GATE)
        server.gate.write_text("")
        server.assign(LATER)
        server.hear_until(Completed, job_id=LATER)
        assert server.about(AT_THE_GATE) == [Canceled(AT_THE_GATE)]
        assert server.vacancies[1:] == [1, 1, 1]


@pytest.mark.parametrize("canceled", [False, True])
def test_a_job_whose_text_cannot_be_encoded_ends_alone_and_once(
    canceled: bool, tmp_path: Path
) -> None:
    with one_drawn_one_at_the_gate(tmp_path) as server:
        if canceled:
            server.link.send(Cancel(AT_THE_GATE))
            server.hear_until(Canceled, job_id=AT_THE_GATE)
        server.gate.write_text("no engine takes it")
        last = server.hear_until(Canceled, Failed, job_id=AT_THE_GATE)
        assert isinstance(last, Canceled) or last.detail == "no engine takes it"
        server.assign(LATER)
        server.hear_until(Completed, job_id=LATER)
        assert server.about(AT_THE_GATE) == [last]
        assert server.vacancies[1:] == [1, 1, 1]


def test_a_worker_that_is_told_to_stop_does_not_wait_for_a_text(tmp_path: Path) -> None:
    with one_drawn_one_at_the_gate(tmp_path) as server:
        server.worker.terminate()
        with pytest.raises(LinkError):
            server.hear_until(Completed, Failed, Canceled, job_id=AT_THE_GATE)
        assert server.worker.wait(PATIENCE) == 0
        assert isinstance(server.said[-1], Leaving)


def test_the_next_job_is_asked_for_early_and_no_more_than_the_decoder_keeps_up_with(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    worker = scripted_worker(DECODE_AT_A_GATE, tmp_path / "data", str(gate), max_batch=1)
    with worker as (process, link):
        server = Server(process, link, gate)
        while not any(isinstance(each, Vacant) for each in server.said):
            server.said.append(link.receive())
        for number, job_id in enumerate((DRAWN, AT_THE_GATE, LATER), 1):
            server.assign(job_id, preview_every=0, steps=40)
            while len(steps := server.about(job_id)) < 40:
                server.said.append(link.receive())
            assert [each.step for each in steps] == [*range(1, 41)]
            # The first is at the gate, the second waits behind it: nobody is asked for in the
            # place of the third.
            assert server.vacancies == [1] * min(number + 1, 3)
        for job_id in (DRAWN, AT_THE_GATE, LATER):
            gate.write_text("")
            server.hear_until(Completed, job_id=job_id)
        assert server.vacancies == [1, 1, 1, 1]


def test_an_interactive_job_is_drawn_while_a_batch_job_has_the_only_place(tmp_path: Path) -> None:
    with scripted_worker(PLAIN, tmp_path / "data", max_batch=1) as (process, link):
        server = Server(process, link, tmp_path)
        while not any(isinstance(each, Vacant) for each in server.said):
            server.said.append(link.receive())
        server.assign(DRAWN, priority="batch", steps=100, width=160, height=160, preview_every=0)
        server.hear_until(Stepped, job_id=DRAWN)
        server.assign(LATER)
        server.hear_until(Completed, job_id=LATER)
        assert {type(each) for each in server.about(DRAWN)} == {Stepped}
        link.send(Cancel(DRAWN))
        server.hear_until(Canceled, job_id=DRAWN)
        while len(server.vacancies) < 3:
            server.said.append(link.receive())
        assert server.vacancies == [1, 1, 1]

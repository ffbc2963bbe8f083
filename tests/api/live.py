"""A Calotype server as its users meet it: a process of its own, spoken to over HTTP."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from tests.api.sse import Event, read_events

ENDED = {"completed", "failed", "canceled"}
PATIENCE = 240.0
"""Seconds after which a test gives up: what it waits for takes far less on an idle machine."""

ResultT = TypeVar("ResultT")

CALOTYPE = str(Path(sys.executable).with_name("calotype"))


@dataclass(frozen=True, slots=True)
class Options:
    """How a server is started: `flags` are added to its model and data folder."""

    engines: Path
    data: Path
    model: str = "tiny"
    flags: tuple[str, ...] = ()
    program: tuple[str, ...] = (CALOTYPE,)


class LiveServer:
    """A `calotype serve` process. A context manager: started, ready, and stopped at the end."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.data = options.data

    def __enter__(self) -> Self:
        self._options.data.mkdir(parents=True, exist_ok=True)
        self._log = (self._options.data / "server.log").open("a")
        command = [
            *(*self._options.program, "serve", "--port", "0", "--model", self._options.model),
            *("--engines", str(self._options.engines), "--data", str(self._options.data)),
            *self._options.flags,
        ]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**clean_environment(), "OMP_NUM_THREADS": "1"},
        )
        self.url = self._read_url()
        self.api = Api(self.url)
        self.api.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.api.client.close()
        self.end(signal.SIGTERM)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the process to be gone; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._log.close()
        if self.process.stdout:
            self.process.stdout.close()
        return code

    def send(self, content: bytes, *, hang_up: bool = False) -> bytes:
        """All that comes back over a bare socket: client libraries send nothing that is wrong."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), PATIENCE) as connection:
            connection.sendall(content)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def logged(self, **last: object) -> list[dict[str, Any]]:
        """The lines of its log, once there is one with these fields."""

        def read() -> list[dict[str, Any]]:
            log = (self.data / "server.log").read_text()
            lines = [json.loads(line) for line in log.splitlines()]
            return lines if any(last.items() <= line.items() for line in lines) else []

        return self.api.wait_until(read)

    def _read_url(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+:\d+", line)
        log = self._options.data / "server.log"
        assert found, f"the server did not open: {line!r}\n{log.read_text()}"
        return found[0]


class Api:
    """A client of the API."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=PATIENCE)
        self._submitted: list[str] = []

    def wait_ready(self) -> None:
        """Ask until a worker has loaded the model."""
        self.wait_until(self._is_ready)

    def wait_until(self, holds: Callable[[], ResultT]) -> ResultT:
        """Ask until it is so; what was answered then."""
        deadline = time.monotonic() + PATIENCE
        while not (answer := holds()):
            assert time.monotonic() < deadline, self.client.get("/health").text
            time.sleep(0.05)
        return answer

    def _is_ready(self) -> bool:
        code = self.client.get("/ready").status_code
        assert code in {200, 503}
        return code == 200

    def submit(self, **body: object) -> str:
        """Submit a small picture with these fields; returns the job's id."""
        answer = self.client.post("/api/generate", json=small(**body))
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["job_id"]
        self._submitted.append(job_id)
        return job_id

    def submit_batch(self, **body: object) -> dict[str, Any]:
        """Submit several small pictures with these fields; returns the answer."""
        answer = self.client.post("/api/generate", json=small(**body))
        assert answer.status_code == 202, answer.text
        batch: dict[str, Any] = answer.json()
        self._submitted += [job["job_id"] for job in batch["jobs"]]
        return batch

    def occupy(self) -> str:
        """Begin a picture that is drawn for as long as any test needs: cancel it in the end."""
        job_id = self.submit(steps=100, width=512, height=512)
        # Until it has begun it waits as others do: it has a place in the queue.
        self.wait_until(lambda: self.job(job_id)["status"] == "processing")
        return job_id

    @contextmanager
    def held(self) -> Iterator[None]:
        """The server's workers stand still: what is submitted meanwhile begins no step."""
        workers = [worker["pid"] for worker in self.client.get("/health").json()["workers"]]
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)

    def draw_told(self, **body: object) -> tuple[str, list[Event]]:
        """A small picture's job and all of its events: the stream is open before the first step."""
        with ExitStack() as stack:
            with self.held():
                job_id = self.submit(**body)
                events = stack.enter_context(self.follow(job_id))
                first = next(events)
            return job_id, [first, *events]

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it is now."""
        answer = self.client.get(f"/api/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def cancel(self, job_id: str) -> httpx.Response:
        """Ask for the job to be canceled."""
        return self.client.delete(f"/api/jobs/{job_id}")

    def cancel_all(self) -> None:
        """End every job that `submit` has submitted."""
        for job_id in self._submitted:
            self.cancel(job_id)
        for job_id in self._submitted:
            self.events(job_id)
        self._submitted.clear()

    @contextmanager
    def follow(self, path: str, last_event_id: str | None = None) -> Iterator[Iterator[Event]]:
        """Open a stream, `/api/sse/` + path."""
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        with self.client.stream("GET", f"/api/sse/{path}", headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield read_events(answer.iter_lines())

    def events(self, job_id: str, last_event_id: str | None = None) -> list[Event]:
        """The job's stream from here to its end."""
        with self.follow(job_id, last_event_id) as events:
            return list(events)

    def finish(self, job_id: str) -> dict[str, Any]:
        """The job, once it has ended."""
        self.events(job_id)
        return self.job(job_id)

    def draw(self, **body: object) -> bytes:
        """The bytes of a small picture with these fields."""
        return self.picture(self.finish(self.submit(**body)))

    def picture(self, job: dict[str, Any]) -> bytes:
        """The bytes of a job's picture."""
        assert job["status"] == "completed", job
        answer = self.client.get(job["image"]["url"])
        assert answer.status_code == 200
        return answer.content


def small(**body: object) -> dict[str, object]:
    """A request that is drawn in no time, with these fields."""
    return {"prompt": "a red apple", "width": 64, "height": 64, "steps": 2, **body}


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem in an answer, checked against RFC 9457."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "\n" not in problem["detail"]
    return problem


def clean_environment() -> dict[str, str]:
    """This process's environment without settings that were meant for a server of its user's."""
    return {name: text for name, text in os.environ.items() if not name.startswith("CALOTYPE_")}

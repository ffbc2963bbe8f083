"""Contestants of the benchmarks that draw one picture at a time: a name, and a call that draws.

Ours are drawn over HTTP, by a server of their own, and in process, with previews and without; the
others are diffusers' pipeline, and the plain server around that.
"""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.drawers.drawer import Drawer
from benchmarks.plain import PlainOptions, PlainServer
from benchmarks.processes import processor_seconds
from benchmarks.server_process import ServingError
from benchmarks.serving import COMPLETED, Server, ServerOptions, request_body
from benchmarks.subjects import Drawn, Subject, optimum_folders

Stages = dict[str, float]
"""Milliseconds of a picture and of its stages; `total` is the whole picture by the clock."""
Draw = Callable[[int], Stages]
"""Draws the picture of a number, which is its seed."""

EAGER, COMPILED = "diffusers, eager", "diffusers, compiled"
OPTIMUM, PLAIN = "optimum-onnx", "plain server over HTTP"

TRIED_STEPS = 4
"""Most steps of the pictures that choose the pipeline's number of threads."""


def over_http(backend: str, *, previews: bool) -> str:
    """Name of a contestant of ours that is served."""
    return f"{backend} over HTTP{', previews' * previews}"


def in_process(backend: str, *, previews: bool) -> str:
    """Name of a contestant of ours that draws in one process."""
    return f"{backend} in process{', previews' * previews}"


@dataclass(slots=True)
class Contestants:
    """Contestants that are open, each with the file of its latest picture."""

    subject: Subject
    picture: Drawn
    folder: Path
    """For pictures, logs and the servers' data."""
    stack: ExitStack
    """Closes what is opened here."""
    draws: dict[str, Draw] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    """Our servers by backend."""

    def file_of(self, name: str) -> Path:
        """File of a contestant's latest picture."""
        return self.folder / f"{name.replace(', ', '-').replace(' ', '_')}.png"

    def add_served(self, backend: str) -> None:
        """Start a server on a backend: two contestants, without previews and with."""
        options = ServerOptions(
            self.subject.engines, self.subject.name, self.folder / f"data-{backend}", backend
        )
        server = self.servers[backend] = self.stack.enter_context(Server(options))
        self.facts[f"{backend} over HTTP"] = server.get("/api/info")["engine"]
        for previews in (False, True):
            name = over_http(backend, previews=previews)
            self.draws[name] = self._served(server, name, previews=previews)

    def add_in_process(self, backend: str) -> None:
        """Start a drawer on a backend: two contestants, without previews and with."""
        options = {
            "engines": str(self.subject.engines),
            "model": self.subject.name,
            "backend": backend,
        }
        drawer = self._drawer("runtime", options, f"{backend} in process")
        for previews in (False, True):
            name = in_process(backend, previews=previews)
            self.draws[name] = self._drawn(drawer, name, previews=previews)

    def add_diffusers(self) -> int:
        """Start diffusers' pipeline; the number of threads with which it was fastest."""
        drawer = self._pipeline(EAGER, threads=None)
        threads: int = drawer.facts["threads"]
        return threads

    def add_compiled(self, threads: int) -> None:
        """Start diffusers' pipeline with its denoiser compiled."""
        self._pipeline(COMPILED, threads=threads)

    def add_optimum(self, python: str) -> None:
        """Start optimum-onnx's pipeline by the Python of its environment."""
        source, exported = optimum_folders(self.subject)
        options = {"source": str(source), "exported": str(exported)}
        drawer = self._drawer("optimum", options, OPTIMUM, python)
        self.draws[OPTIMUM] = self._drawn(drawer, OPTIMUM)

    def add_plain_server(self, threads: int) -> None:
        """Start the plain server around diffusers' pipeline."""
        options = PlainOptions(self.subject.source, threads, warm_size=self.picture.size)
        server = self.stack.enter_context(PlainServer(options, self.folder / "plain.log"))

        def draw(number: int) -> Stages:
            began = time.perf_counter()
            content = server.picture(self.body(number, previews=False))
            total = time.perf_counter() - began
            self.file_of(PLAIN).write_bytes(content)
            return {"total": 1e3 * total}

        self.draws[PLAIN] = self._timed(draw, server.pid)

    def _timed(self, draw: Draw, pid: int) -> Draw:
        """The same with the processor time that the process and its descendants took."""

        def timed(number: int) -> Stages:
            before = processor_seconds(pid)
            stages = draw(number)
            return {**stages, "processor": 1e3 * (processor_seconds(pid) - before)}

        return timed

    def body(self, number: int, *, previews: bool) -> dict[str, Any]:
        """Request of a number. With previews it has a prompt of its own, which a server that drew
        the number without previews has not encoded before.
        """
        body = request_body(
            self.picture.size,
            self.picture.steps,
            number,
            sampler="euler",
            cfg_scale=self.subject.guidance,
            preview_every=int(previews),
        )
        return {**body, "prompt": f"{body['prompt']}{', shown' * previews}"}

    def _pipeline(self, name: str, threads: int | None) -> Drawer:
        options = {
            "source": str(self.subject.source),
            "compiled": name == COMPILED,
            "threads": threads,
            "tried": self.body(10**6, previews=False)
            | {"steps": min(TRIED_STEPS, self.picture.steps)},
        }
        drawer = self._drawer("pipeline", options, name)
        self.draws[name] = self._drawn(drawer, name)
        return drawer

    def _drawer(
        self, module: str, options: Mapping[str, Any], name: str, python: str = sys.executable
    ) -> Drawer:
        log = self.file_of(name).with_suffix(".log")
        drawer = self.stack.enter_context(Drawer(module, options, log, python))
        self.facts[name] = drawer.facts
        return drawer

    def _drawn(self, drawer: Drawer, name: str, *, previews: bool = False) -> Draw:
        def draw(number: int) -> Stages:
            return drawer.draw(self.body(number, previews=previews), self.file_of(name))

        return self._timed(draw, drawer.pid)

    def _served(self, server: Server, name: str, *, previews: bool) -> Draw:
        def draw(number: int) -> Stages:
            before, worked = server.metrics(), processor_seconds(server.pid)
            began = time.perf_counter()
            followed = server.draw(self.body(number, previews=previews))
            if followed.status != COMPLETED:
                raise ServingError(f"{followed.job_id}: {followed.status}")
            ended = time.perf_counter()
            content = server.picture(followed)
            fetched = time.perf_counter()
            worked = processor_seconds(server.pid) - worked
            self.file_of(name).write_bytes(content)
            job, after = server.get(f"/api/jobs/{followed.job_id}"), server.metrics()
            spent = {key: after[key] - before[key] for key in after if key in before}
            seconds = {
                "total": fetched - began,
                "processor": worked,
                "submit": followed.submitted,
                "queue": _between(job, "created_at", "started_at"),
                "text": spent["calotype_conditioning_seconds_total"],
                "step": spent["calotype_step_seconds_total"] / spent["calotype_steps_total"],
                "host between two steps": spent["calotype_host_seconds_total"]
                / spent["calotype_denoiser_calls_total"],
                "after the last step": followed.seconds - max(followed.steps),
                "fetch": fetched - ended,
            }
            if followed.previews:
                seconds["first preview"] = followed.previews[0]
            return {key: 1e3 * value for key, value in seconds.items()}

        return draw


def _between(job: Mapping[str, Any], start: str, end: str) -> float:
    began, ended = (datetime.fromisoformat(job[key]) for key in (start, end))
    return (ended - began).total_seconds()

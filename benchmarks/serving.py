"""Starts `calotype serve` for a benchmark, sends requests over HTTP, and stops the server.

Every wait has a limit.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

PROMPT = "a lighthouse on a rock in the sea, evening light"
NEGATIVE = "blurry, low quality"
COMPLETED = "completed"
ENDED = {COMPLETED, "failed", "canceled"}
PAUSE = 0.02
"""Seconds between two polls."""
STOP_SECONDS = 20.0
PROGRAM = "import sys; from api.cli import main; sys.exit(main())"
"""Code of the command `calotype`, which also runs where nothing is installed."""


class ServingError(Exception):
    """Reason why the server cannot be measured."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Options for starting a server."""

    engines: Path
    model: str
    data: Path
    backend: str
    flags: tuple[str, ...] = ()
    patience: float = 180.0
    """Limit of every wait, in seconds."""

    @property
    def log(self) -> Path:
        """File of all that the server and its workers print."""
        return self.data / "server.log"

    def log_lines(self) -> list[str]:
        """Lines of the log, those of earlier servers on the same data included."""
        return self.log.read_text().strip().splitlines() if self.log.is_file() else []


@dataclass(frozen=True, slots=True)
class Followed:
    """Job as a client saw it; times are in seconds from its submission."""

    job_id: str
    status: str
    seconds: float
    steps: tuple[float, ...]
    """Arrival of the event of each step."""
    previews: tuple[float, ...]
    """Arrival of each preview."""


class Server:
    """Server process, as a context manager: ready inside of the block, stopped at its end."""

    def __init__(self, options: ServerOptions) -> None:
        """Choose a free port; the process is started on entering the context."""
        self._options = options
        self._port = free_port()
        self.api_seconds = 0.0
        """Seconds from the start of the process to its first answer."""
        self.ready_seconds = 0.0
        """Seconds from the start of the process until a worker was ready."""

    def __enter__(self) -> Self:
        """Start the server and wait until it is ready. Raises ServingError."""
        options = self._options
        options.data.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-c", PROGRAM, "serve", "--model", options.model]
        command += ["--engines", str(options.engines), "--data", str(options.data)]
        command += ["--backend", options.backend, "--port", str(self._port), *options.flags]
        began = time.perf_counter()
        with options.log.open("a") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self._port}", timeout=options.patience
        )
        try:
            self._wait(began, "/health")
            self.api_seconds = time.perf_counter() - began
            self._wait(began, "/ready")
            self.ready_seconds = time.perf_counter() - began
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Stop the server; kill it when it does not stop in `STOP_SECONDS`."""
        self.client.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            # The worker ends by itself when its server is gone.
            self._process.kill()
            self._process.wait(STOP_SECONDS)

    def wait_ready(self) -> None:
        """Wait until a worker is ready. Raises ServingError."""
        self._wait(time.perf_counter(), "/ready")

    def wait_unready(self) -> None:
        """Wait until no worker is ready. Raises ServingError."""
        self._wait(time.perf_counter(), "/ready", answers=False)

    def _wait(self, began: float, path: str, *, answers: bool = True) -> None:
        while self._answers(path) is not answers:
            if self._process.poll() is not None:
                code, last = self._process.returncode, self._last_line()
                raise ServingError(f"the server ended with code {code}: {last}")
            if time.perf_counter() - began > self._options.patience:
                health = self.client.get("/health", timeout=5).text
                raise ServingError(f"no {path} in {self._options.patience:g} s: {health}")
            time.sleep(PAUSE)

    def _last_line(self) -> str:
        lines = self._options.log_lines()
        return lines[-1] if lines else "it said nothing"

    def _answers(self, path: str) -> bool:
        try:
            return self.client.get(path).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def worker(self) -> int:
        """Process id of the worker. Raises ServingError when there is no worker now."""
        pid = self.get("/health")["workers"][0]["pid"]
        if pid is None:
            raise ServingError("there is no worker now")
        return int(pid)

    def get(self, path: str) -> Any:
        """Parsed JSON answer to a GET request. Raises httpx.HTTPError."""
        return self.client.get(path).raise_for_status().json()

    def metrics(self) -> dict[str, float]:
        """Figures of `/metrics` by name and label, without those about HTTP and creation times."""
        found = {}
        for family in text_string_to_metric_families(self.client.get("/metrics").text):
            for sample in family.samples:
                label = sample.labels.get("use") or sample.labels.get("status") or ""
                if "_http_" not in sample.name and not sample.name.endswith("_created"):
                    found[f"{sample.name}{'.' * bool(label)}{label}"] = sample.value
        return found

    def submit(self, body: Mapping[str, Any]) -> str:
        """Submit a request; the job's id. Raises ServingError when the request is refused."""
        answer = self.client.post("/api/generate", json=dict(body))
        if answer.status_code != 202:
            raise ServingError(f"refused: {answer.text}")
        return str(answer.json()["job_id"])

    def draw(self, body: Mapping[str, Any]) -> Followed:
        """Submit a request and follow the job's events to its end. Raises ServingError."""
        began = time.perf_counter()
        job_id = self.submit(body)
        steps, previews, event = [], [], {}
        for event in self._events(job_id, began):
            now = time.perf_counter() - began
            if event["status"] == "processing":
                steps.append(now)
            if event.get("preview"):
                previews.append(now)
        seconds = time.perf_counter() - began
        return Followed(job_id, event.get("status", ""), seconds, tuple(steps), tuple(previews))

    def _events(self, job_id: str, began: float) -> Iterator[dict[str, Any]]:
        with self.client.stream("GET", f"/api/sse/{job_id}") as answer:
            # The stream has a comment every few seconds: the limit holds for a silent job too.
            for line in answer.iter_lines():
                if time.perf_counter() - began > self._options.patience:
                    raise ServingError(f"{job_id}: not done in {self._options.patience:g} s")
                if line.startswith("data:"):
                    event = json.loads(line.removeprefix("data:"))
                    yield event
                    if event["status"] in ENDED:
                        return

    def wait_ended(self, jobs: Sequence[str], ended: int) -> Sequence[dict[str, Any]]:
        """Wait until the first `ended` of these jobs have ended; these jobs as they are then.

        Raises ServingError.
        """
        began = time.perf_counter()
        found: list[dict[str, Any]] = []
        while len(found) < ended:
            job = self.get(f"/api/jobs/{jobs[len(found)]}")
            if job["status"] in ENDED:
                found.append(job)
                continue
            if time.perf_counter() - began > self._options.patience:
                raise ServingError(f"{len(found)} of {ended} pictures: {job['status']}")
            time.sleep(PAUSE)
        return found


def free_port() -> int:
    """Port on 127.0.0.1 that no process listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def request_body(size: int, steps: int, number: int, **fields: Any) -> dict[str, Any]:
    """Request for the picture of this number, with a prompt and a seed of its own."""
    return {
        "prompt": f"{PROMPT}, number {number}",
        "width": size,
        "height": size,
        "steps": steps,
        "seed": number,
        **fields,
    }

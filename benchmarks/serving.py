"""Starts `calotype serve` for a benchmark, sends requests over HTTP, and stops the server.

Every wait has a limit.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load import Seen
from benchmarks.server_process import PAUSE, ServerProcess, ServingError, free_port

PROMPT = "a lighthouse on a rock in the sea, evening light"
NEGATIVE = "blurry, low quality"
COMPLETED = "completed"
ENDED = {COMPLETED, "failed", "canceled"}
PROGRAM = "import sys; from api.cli import main; sys.exit(main())"
"""Code of the command `calotype`, which also runs where nothing is installed."""


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
    submitted: float = 0.0
    """End of the submission."""
    url: str | None = None
    """The picture's address; None for a job without a picture."""


class Server(ServerProcess):
    """`calotype serve` in a process of its own, and a client of it."""

    def __init__(self, options: ServerOptions) -> None:
        """Choose a free port; the process is started on entering the context."""
        port = free_port()
        command = [sys.executable, "-c", PROGRAM, "serve", "--model", options.model]
        command += ["--engines", str(options.engines), "--data", str(options.data)]
        command += ["--backend", options.backend, "--port", str(port), *options.flags]
        super().__init__(command, port, options.log, options.patience)

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

    def cancel(self, job_id: str) -> None:
        """Ask a job to stop; a job that has ended stays as it is."""
        self.client.delete(f"/api/jobs/{job_id}")

    def draw(self, body: Mapping[str, Any]) -> Followed:
        """Submit a request and follow the job's events to its end. Raises ServingError."""
        began = time.perf_counter()
        job_id = self.submit(body)
        submitted = time.perf_counter() - began
        steps, previews, event = [], [], {}
        for event in self._events(job_id, began):
            now = time.perf_counter() - began
            if event["status"] == "processing":
                steps.append(now)
            if event.get("preview"):
                previews.append(now)
        return Followed(
            job_id,
            event.get("status", ""),
            time.perf_counter() - began,
            tuple(steps),
            tuple(previews),
            submitted,
            (event.get("image") or {}).get("url"),
        )

    def ask(self, body: Mapping[str, Any]) -> Seen:
        """Draw a picture and fetch its file."""
        followed = self.draw(body)
        if followed.status != COMPLETED:
            return Seen(f"{followed.job_id}: {followed.status}")
        self.picture(followed)
        return Seen(None, followed.previews[0] if followed.previews else None)

    def picture(self, followed: Followed) -> bytes:
        """File of a job's picture. Raises ServingError for a job without a picture."""
        if followed.url is None:
            raise ServingError(f"{followed.job_id}: {followed.status}, and no picture")
        return self.client.get(followed.url).raise_for_status().content

    def _events(self, job_id: str, began: float) -> Iterator[dict[str, Any]]:
        with self.client.stream("GET", f"/api/sse/{job_id}") as answer:
            # The stream has a comment every few seconds: the limit holds for a silent job too.
            for line in answer.iter_lines():
                if time.perf_counter() - began > self.patience:
                    raise ServingError(f"{job_id}: not done in {self.patience:g} s")
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
            if time.perf_counter() - began > self.patience:
                raise ServingError(f"{len(found)} of {ended} pictures: {job['status']}")
            time.sleep(PAUSE)
        return found


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

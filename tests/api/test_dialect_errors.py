"""The errors of every dialect, as one table has them: a real server, the clients of its users."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.keys import KeyFile, Scope
from tests.api.error_dialects import DIALECTS, Answer
from tests.api.error_table import HEAD, RETRIED, ROWS, TABLE, Asked
from tests.api.live import LiveServer, Options, small
from tests.fakes.small_disk import fill, small_disk
from tests.places import ROOT

FLAGS = (
    *("--keys", "--max-batch", "1", "--queue-limit", "1", "--max-attempts", "1"),
    *("--streams-per-caller", "1"),
)
LONG = {"steps": 100, "width": 512, "height": 512}
ROOMY = ("--queue-limit", "3", "--streams-per-caller", "3")
LARGE = b'{"prompt": "' + b"x" * 2**20 + b'"}'


def made_keys(data: Path) -> dict[str, str]:
    """Keys by name, for a server of this data folder."""
    file = KeyFile(data)
    return {
        "wrong": "calo_none_of_ours",
        "reader": file.create("reader", Scope.READ),
        "painter": file.create("painter", Scope.GENERATE),
        "slow": file.create("slow", Scope.GENERATE, rate=1),
        "admin": file.create("admin", Scope.ADMIN),
    }


@contextmanager
def elsewhere(engines: Path, data: Path, *more: str) -> Iterator[tuple[LiveServer, dict[str, str]]]:
    """A server that lets one job wait, and one stream of a caller be open; with its keys."""
    data.mkdir(exist_ok=True)
    keys = made_keys(data)
    with LiveServer(Options(engines, data, flags=(*FLAGS, *more))) as server:
        server.api.client.headers["Authorization"] = f"Bearer {keys['admin']}"
        yield server, keys


@pytest.fixture(scope="module")
def strict(
    tiny_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LiveServer, dict[str, str]]]:
    with elsewhere(tiny_package, tmp_path_factory.mktemp("errors")) as served:
        yield served


@pytest.fixture
def server(strict: tuple[LiveServer, dict[str, str]]) -> LiveServer:
    return strict[0]


@pytest.fixture
def keys(strict: tuple[LiveServer, dict[str, str]]) -> dict[str, str]:
    return strict[1]


def refused(
    server: LiveServer,
    keys: Mapping[str, str],
    dialects: Iterable[str],
    asked: Asked,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, Answer]:
    """The answers to a request in the words of some dialects, while something happens."""
    with ThreadPoolExecutor(len(DIALECTS)) as threads:
        asking = {
            dialect: threads.submit(DIALECTS[dialect][0], server.url, keys, asked)
            for dialect in dialects
        }
        meanwhile()
        return {dialect: answer.result() for dialect, answer in asking.items()}


def refuse(server: LiveServer, keys: Mapping[str, str], asked: Asked, cause: str) -> None:
    """The request is refused in each dialect, as the table has it."""
    for dialect in DIALECTS:
        check(refused(server, keys, [dialect], asked)[dialect], dialect, cause)


def check(answer: Answer, dialect: str, cause: str) -> None:
    """The answer is the one in the table, and says when to come again where that helps."""
    _, look = DIALECTS[dialect]
    look(answer, TABLE[cause])
    waits = answer.status in (429, 503, 507)
    assert ("retry-after" in answer.headers) == waits
    assert cause in RETRIED or not waits


REQUESTS = {
    "no_json": Asked(content=b'{"prompt": '),
    "wrong_key": Asked(key="wrong"),
    "no_right": Asked(key="reader"),
    "wrong_field": Asked({"steps": 101}),
    "unknown_model": Asked({"model": "none-of-ours"}),
    "too_large": Asked(content=LARGE),
    "not_declared": Asked(content_type="text/plain"),
}


@pytest.mark.parametrize("cause", REQUESTS)
def test_a_request_that_is_wrong(server: LiveServer, keys: dict[str, str], cause: str) -> None:
    refuse(server, keys, REQUESTS[cause], cause)


def test_a_caller_over_its_rate(server: LiveServer, keys: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {keys['slow']}"}
    assert server.api.client.post("/api/generate", json=small(), headers=headers).is_success
    refuse(server, keys, Asked(key="slow"), "rate")


def test_a_caller_with_too_many_streams(server: LiveServer, keys: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {keys['painter']}"}
    with server.api.client.stream("GET", "/api/sse/gallery", headers=headers):
        refuse(server, keys, Asked(), "streams")


def test_a_full_queue(server: LiveServer, keys: dict[str, str]) -> None:
    server.api.occupy()
    server.api.submit()
    refuse(server, keys, Asked(), "full")
    server.api.cancel_all()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_picture_that_fails(server: LiveServer, keys: dict[str, str], dialect: str) -> None:
    """Its worker is lost in the middle of it, and a job has one attempt."""
    before = counted(server, "calotype_steps_total")

    def kill() -> None:
        server.api.wait_until(lambda: counted(server, "calotype_steps_total") > before)
        for worker in server.api.client.get("/health").json()["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)

    check(refused(server, keys, [dialect], Asked(LONG), kill)[dialect], dialect, "failed")
    server.api.wait_ready()


def test_a_server_that_is_stopped(tiny_package: Path, tmp_path: Path) -> None:
    """One of the requests is being drawn, and two wait."""
    with elsewhere(tiny_package, tmp_path, *ROOMY) as (server, keys):

        def stop() -> None:
            server.api.wait_until(lambda: counted(server, "calotype_jobs_submitted_total") == 3)
            server.process.send_signal(signal.SIGTERM)

        answers = refused(server, keys, DIALECTS, Asked(LONG), stop)
        for dialect, answer in answers.items():
            check(answer, dialect, "stopping")


def test_a_full_disk(tiny_package: Path, tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", 64) as disk,
        elsewhere(tiny_package, disk / "data", "--disk-reserve-mb", "8") as (server, keys),
    ):
        fill(disk)
        server.api.wait_until(lambda: server.api.client.get("/ready").status_code == 503)
        refuse(server, keys, Asked(), "no_room")


def test_the_table_is_that_of_the_page() -> None:
    lines = (ROOT / "docs" / "clients.md").read_text().splitlines()
    first = lines.index(HEAD[0])
    assert lines[first : first + 2 + len(ROWS)] == [*HEAD, *ROWS]
    assert not lines[first + 2 + len(ROWS)].startswith("|")


def test_every_cause_is_tried() -> None:
    tried = {*REQUESTS, "rate", "streams", "full", "failed", "stopping", "no_room"}
    assert tried == TABLE.keys()


def counted(server: LiveServer, metric: str) -> float:
    """The value of a metric."""
    lines = server.api.client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{metric} "))

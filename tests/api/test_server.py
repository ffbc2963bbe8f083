"""The server process: how it starts, how it refuses to, and what a stop leaves behind."""

import json
import shutil
import signal
import socket
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.package.manifest import read_manifest, write_manifest
from tests.api.conftest import Starter
from tests.api.live import CALOTYPE, PATIENCE, Api, LiveServer, Options, clean_environment

ONE_AT_A_TIME = ("--max-batch", "1")


def serve(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run a server that will not start."""
    return subprocess.run(
        [CALOTYPE, "serve", *flags],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=clean_environment(),
        check=False,
    )


def refuses(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One line, that exit code, and never a port."""
    assert (done.returncode, done.stdout) == (code, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("calotype: ")
    assert all(word in line for word in words), line


def test_a_model_that_is_not_there_is_refused_before_the_port_is_opened(
    tiny_package: Path, tmp_path: Path
) -> None:
    flags = ("--engines", str(tiny_package), "--data", str(tmp_path / "data"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = ("--port", str(taken.getsockname()[1]))
        refuses(serve("--model", "absent", *flags, *port), 1, "absent", "tiny")
    assert not (tmp_path / "data").exists()


def test_a_model_that_is_damaged_is_refused_by_its_file(tiny_package: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_package / "tiny", tmp_path / "tiny")
    weights = tmp_path / "tiny" / "vae_decoder.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    flags = ("--engines", str(tmp_path), "--data", str(tmp_path / "data"), "--port", "0")
    refuses(serve("--model", "tiny", *flags), 1, "vae_decoder.safetensors")


def test_an_address_that_is_taken_is_refused(tiny_package: Path, tmp_path: Path) -> None:
    flags = ("--model", "tiny", "--engines", str(tiny_package), "--data", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refuses(serve(*flags, "--port", port), 1, port, "--port")
    refuses(serve(*flags, "--no-keys", "--host", "203.0.113.1"), 1, "203.0.113.1", "--host")


def test_a_data_folder_that_another_server_uses_is_refused(
    tiny_package: Path, server: LiveServer
) -> None:
    flags = ("--engines", str(tiny_package), "--data", str(server.data), "--port", "0")
    refuses(serve("--model", "tiny", *flags), 1, "another server", "--data")


POST = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BROKEN: dict[str, bytes] = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00",
    "a length that is no number": POST + b"Content-Length: many\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n{}",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length beyond all bounds": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}",
    "a length and chunks": POST
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks that are none": POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
}
UNFINISHED: dict[str, bytes] = {
    "a body that stops": POST + b"Content-Length: 500\r\n\r\n{",
    "a chunk that stops": POST + b"Transfer-Encoding: chunked\r\n\r\n20\r\n{",
    "a header that stops": POST + b"X: " + b"x" * 10_000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_request_is_refused(server: LiveServer, content: bytes) -> None:
    answer = server.send(content)
    assert answer.startswith(b"HTTP/1.1 400 ")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["status"] == 400
    assert server.api.client.get("/ready").status_code == 200


@pytest.mark.parametrize("content", UNFINISHED.values(), ids=UNFINISHED)
def test_a_caller_that_hangs_up_in_the_middle_is_no_error_of_ours(
    server: LiveServer, content: bytes
) -> None:
    log = server.data / "server.log"
    before = log.read_text()
    assert server.send(content, hang_up=True) == b""
    assert server.api.client.get("/ready").status_code == 200
    assert "Traceback" not in log.read_text().removeprefix(before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_open_streams_do_not_hold_up_a_stop(
    tiny_package: Path, tmp_path: Path, start: Starter, number: signal.Signals
) -> None:
    """Neither the gallery's nor a job's stream, nor a caller that waits, ends by itself."""
    running = start(Options(tiny_package, tmp_path, flags=ONE_AT_A_TIME))
    job_id = running.api.occupy()
    with running.api.follow("gallery") as gallery, running.api.follow(job_id) as job:
        next(gallery)
        next(job)
        assert running.end(number) == 0
        assert list(gallery) == []
        assert not any(event.status == "completed" for event in job)


def test_a_request_that_ends_while_the_server_stops_makes_no_job(
    tiny_package: Path, tmp_path: Path, start: Starter
) -> None:
    """Its client is told to come again, and nothing is drawn that nobody heard of."""
    running = start(Options(tiny_package, tmp_path))
    body = b'{"prompt": "a", "width": 64, "height": 64, "steps": 2}'
    head = (
        "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    host, _, port = running.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(head.encode() + body[:-1])
        with running.api.follow("gallery") as gallery:
            next(gallery)
            running.process.send_signal(signal.SIGTERM)
            assert list(gallery) == []
        connection.sendall(body[-1:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after:" in answer.lower()
    assert b"is being stopped" in answer
    assert running.end(signal.SIGTERM) == 0
    with sqlite3.connect(tmp_path / "calotype.sqlite3") as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_a_restart_in_the_middle_loses_no_job_and_makes_no_picture_twice(
    tiny_package: Path, tmp_path: Path, start: Starter, number: signal.Signals
) -> None:
    options = Options(tiny_package, tmp_path, flags=ONE_AT_A_TIME)
    first = start(options)
    done = first.api.finish(first.api.submit(seed=1))
    picture = first.api.picture(done)
    # Large enough to be drawn still when its stream opens.
    long = {"seed": 2, "steps": 60, "width": 256, "height": 256}
    half_done = first.api.submit(**long)
    headers = {"Idempotency-Key": "kept"}
    body = {"prompt": "a", "width": 64, "height": 64, "steps": 2}
    kept = first.api.client.post("/api/generate", json=body, headers=headers).json()["job_id"]
    waiting = [kept, *(first.api.submit(seed=seed) for seed in (3, 4))]
    with first.api.follow(half_done) as events:
        last = next(event for event in events if event.data.get("step", 0) >= 2)
        first.end(number)

    second = start(options)
    again = second.api.client.post("/api/generate", json=body, headers=headers)
    assert again.json()["job_id"] == kept
    statuses = [event.status for event in second.api.events(half_done, last.id)]
    assert statuses[-1] == "completed"
    jobs = [second.api.finish(job_id) for job_id in (half_done, *waiting)]
    assert [job["status"] for job in jobs] == ["completed"] * 4
    assert second.api.job(done["job_id"]) == done
    assert second.api.picture(done) == picture
    listed = second.api.client.get("/api/images").json()["images"]
    assert [image["job_id"] for image in listed] == [
        *reversed([job["job_id"] for job in jobs]),
        done["job_id"],
    ]
    assert len(list((tmp_path / "images").iterdir())) == len(listed)
    assert second.api.picture(jobs[0]) == second.api.draw(**long)


def test_jobs_that_waited_for_another_model_fail_and_say_which(
    tiny_package: Path, tmp_path: Path, start: Starter
) -> None:
    engines = tmp_path / "engines"
    renamed(tiny_package / "tiny", engines / "other")
    data = tmp_path / "data"
    first = start(Options(tiny_package, data, flags=ONE_AT_A_TIME))
    done = first.api.finish(first.api.submit())
    interrupted = first.api.occupy()
    waiting = first.api.submit()
    assert first.end(signal.SIGTERM) == 0

    second = start(Options(engines, data, model="other"))
    assert second.api.job(done["job_id"]) == done
    assert second.api.picture(done)
    for job_id in (interrupted, waiting):
        assert fails_naming(second.api, job_id, "tiny", "other")
    drawn = second.api.finish(second.api.submit())
    assert drawn["image"]["model"] == "other"


def fails_naming(api: Api, job_id: str, *names: str) -> bool:
    """True for a job that failed with a reason that names all of these, in its stream as well."""
    job = api.finish(job_id)
    error: dict[str, Any] = job["error"]
    [event] = api.events(job_id)
    assert event.data == {"status": "failed", "error": error}
    return job["status"] == "failed" and all(name in error["detail"] for name in names)


def renamed(package: Path, to: Path) -> None:
    """Copy a package under another name."""
    shutil.copytree(package, to)
    manifest, _ = read_manifest(to)
    write_manifest(to, replace(manifest, name=to.name))

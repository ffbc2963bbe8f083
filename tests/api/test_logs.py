"""The log of a real server: every line is an object, and a job's lines have its id."""

import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Starter
from tests.api.live import LiveServer, Options, small

SECRETS = ("sEcretKey", "aPromptOfMine", "anotherPrompt", "sEcretToken", "sEcretCookie")
HEADERS = {
    "Idempotency-Key": SECRETS[0],
    "Authorization": f"Bearer {SECRETS[3]}",
    "Cookie": f"calotype={SECRETS[4]}",
}

UNREAD = """
import os, sys
kept, end = os.pipe()
os.dup2(end, 2)
from api.cli import main
sys.exit(main())
"""
"""Serves with a standard error that stays open and is never read."""


@pytest.fixture
def talkative(tiny_package: Path, tmp_path: Path, start: Starter) -> LiveServer:
    """A server that logs all that it can."""
    flags = ("--access-log", "--log-level", "debug", "--log-format", "json")
    return start(Options(tiny_package, tmp_path / "data", flags=flags))


def lines_of(lines: list[dict[str, Any]], job_id: str) -> list[dict[str, Any]]:
    return [line for line in lines if line.get("job_id") == job_id]


def test_a_jobs_life_is_in_lines_of_its_id(talkative: LiveServer) -> None:
    body = small(prompt=SECRETS[1], negative_prompt=SECRETS[2])
    answer = talkative.api.client.post("/api/generate", json=body, headers=HEADERS)
    job = talkative.api.finish(answer.json()["job_id"])
    failed = talkative.api.client.post("/api/generate", json={**body, "prompts": 1, "steps": 0})
    assert (job["status"], failed.status_code) == ("completed", 422)
    log = talkative.logged(job_id=job["job_id"], event="job ended")
    assert not any(secret in str(log) for secret in SECRETS)
    for line in log:
        assert {"time", "level", "logger", "event", "process", "pid"} <= line.keys()
        assert line["time"].endswith("Z")
        datetime.fromisoformat(line["time"])
    assert not any(line["logger"] in ("uvicorn.error", "__main__", "root") for line in log)

    about = lines_of(log, job["job_id"])
    submitted, started, ended = (
        next(line for line in about if line["event"] == f"job {event}")
        for event in ("submitted", "started", "ended")
    )
    keys = ("model", "width", "height", "steps", "priority")
    assert [submitted[key] for key in keys] == ["tiny", 64, 64, 2, "interactive"]
    assert started["attempt"] == 1
    assert 0 <= started["waited"] <= ended["seconds"]
    assert (ended["status"], ended["picture"]) == ("completed", job["image"]["filename"])
    [pid] = {line["pid"] for line in about if line["process"] == "worker"}
    assert pid != submitted["pid"] == talkative.process.pid
    stages = {line["event"] for line in about if line["pid"] == pid}
    assert stages >= {"encoding the prompts has ended", "decoding has ended"}
    [said] = [line for line in log if line["event"].startswith("ONNX Runtime on the CPU")]
    assert (said["pid"], said["level"], said["logger"]) == (pid, "info", "runtime.worker.opening")


def test_a_request_is_logged_by_its_route(talkative: LiveServer) -> None:
    job = talkative.api.finish(talkative.api.submit())
    talkative.api.client.get("/elsewhere?of=me", headers=HEADERS)
    log = talkative.logged(event="request", status=404)
    lines = [line for line in log if line["logger"] == "api.access_log"]
    asked = {(line["method"], line["route"], line["status"]) for line in lines}
    assert {
        ("POST", "/api/generate", 202),
        ("GET", "/api/jobs/{job_id}", 200),
        ("GET", "unknown", 404),
    } <= asked
    assert all(line["ms"] > 0 for line in lines)
    [looked] = [line for line in lines if line["route"] == "/api/jobs/{job_id}"]
    assert looked["job_id"] == job["job_id"]
    assert "of=me" not in str(lines)


def test_without_the_flag_no_request_is_logged(server: LiveServer) -> None:
    job = server.api.finish(server.api.submit())
    lines = server.logged(job_id=job["job_id"], event="job ended")
    assert len(lines_of(lines, job["job_id"])) == 3
    assert {line["level"] for line in lines_of(lines, job["job_id"])} == {"info"}
    assert not any(line["logger"] == "api.access_log" for line in lines)


def test_a_job_that_fails_is_a_warning_with_its_title(
    tiny_package: Path, tmp_path: Path, start: Starter
) -> None:
    running = start(Options(tiny_package, tmp_path / "data", flags=("--max-attempts", "1")))
    job_id = running.api.occupy()
    worker = running.api.client.get("/health").json()["workers"][0]["pid"]
    os.kill(worker, signal.SIGKILL)
    assert running.api.finish(job_id)["status"] == "failed"
    log = running.logged(job_id=job_id, event="job ended")
    [ended] = [line for line in log if line["event"] == "job ended"]
    title = "The job's worker was lost"
    assert (ended["level"], ended["status"], ended["error"]) == ("warning", "failed", title)


def test_a_standard_error_that_nobody_reads_holds_nobody_up(
    tiny_package: Path, tmp_path: Path
) -> None:
    program = (sys.executable, "-c", UNREAD)
    options = Options(tiny_package, tmp_path / "data", flags=("--access-log",), program=program)
    with LiveServer(options) as running:
        for _ in range(400):  # A pipe holds 64 KB.
            assert running.api.client.get("/health").status_code == 200
        assert running.api.draw()
        assert running.end(signal.SIGTERM) == 0

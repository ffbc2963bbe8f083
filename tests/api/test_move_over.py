"""`calotype serve` where a backend comes later, or cannot be opened: a server's whole way."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.api.live import PATIENCE, LiveServer, Options, clean_environment
from tests.fakes.server import GATE
from tests.fakes.worker import FULL, servable
from tests.places import ROOT
from tests.runtime.package.targets import add_target

PROGRAM = (sys.executable, "-m", "tests.fakes.server")
COMPILE = ("--compile", "--backend", "tensorrt-rtx", "--lease-seconds", "2")


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """An engines folder with the committed demo model, without targets."""
    ignored = shutil.ignore_patterns("targets", "loras")
    shutil.copytree(ROOT / "engines/demo", tmp_path / "engines/demo", ignore=ignored)
    return tmp_path / "engines"


@contextmanager
def compiling(
    engines: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LiveServer, Path]]:
    """A server that compiles meanwhile, and the gate at which the compilation waits."""
    gate = engines.parent / "gate"
    os.mkfifo(gate)
    monkeypatch.setenv(GATE, str(gate))
    with LiveServer(Options(engines, data, "demo", COMPILE, PROGRAM)) as server:
        yield server, gate


def engine_of(server: LiveServer) -> dict[str, Any]:
    """The engine in use, as `/api/info` describes it."""
    found: dict[str, Any] = server.api.client.get("/api/info").json()["engine"]
    return found


def test_it_serves_at_once_and_moves_over_between_two_jobs(
    engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with compiling(engines, tmp_path / "data", monkeypatch) as (server, gate):
        engine = engine_of(server)
        assert engine["backend"] == "onnxruntime-cpu"
        assert "compiling in the background: " in engine["note"]
        begun = server.api.submit(steps=100)
        with server.api.follow(begun) as events:
            next(event for event in events if event.data.get("step", 0) >= 1)
            gate.write_text("")
            steps = [event.data["step"] for event in events if "step" in event.data]
        assert steps == sorted(steps)
        assert server.api.job(begun)["attempt"] == 1
        engine = server.api.wait_until(
            lambda: (found := engine_of(server))["backend"] == "tensorrt-rtx" and found
        )
        assert engine["target"].startswith("tensorrt-rtx-")
        assert engine["note"].startswith(f"{engine['target']} on Imagined GPU")
        assert "compiling" not in engine["note"]
        assert server.api.draw()
        server.api.wait_until(
            lambda: 'memory_bytes{use="weights"' in server.api.client.get("/metrics").text
        )
        log = server.logged()
    choice, words, room = engine["note"].partition("the engines take ")
    assert "text encoders stay open (chosen by auto)" in room
    said = [line["event"] for line in log if (line["process"], line["level"]) == ("worker", "info")]
    for part in (choice.removesuffix("; "), words + room):
        assert part in said


def test_what_cannot_be_compiled_is_told_with_the_engine_in_use(
    engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with compiling(engines, tmp_path / "data", monkeypatch) as (server, gate):
        gate.write_text("no room on disk")
        failed = "; compiling failed (code 1): no room on disk"
        server.api.wait_until(lambda: engine_of(server)["note"].endswith(failed))
        assert engine_of(server)["backend"] == "onnxruntime-cpu"
        assert server.api.draw()


def test_where_the_target_cannot_be_opened_it_goes_back_to_what_served(
    engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FULL, "1")
    with compiling(engines, tmp_path / "data", monkeypatch) as (server, gate):
        gate.write_text("")
        told = "; tensorrt-rtx was to take over and could not: the engines take some "
        server.api.wait_until(lambda: told in (engine_of(server)["note"]))
        server.api.wait_ready()
        assert engine_of(server)["backend"] == "onnxruntime-cpu"
        assert server.api.draw()


@pytest.mark.parametrize("backend", ["tensorrt-rtx", "auto"])
def test_a_backend_that_cannot_be_opened_ends_the_server_in_one_line(
    backend: str, engines: Path, tmp_path: Path
) -> None:
    add_target(engines / "demo", servable(((64, 64),)))
    flags = ("--engines", str(engines), "--data", str(tmp_path / "data"), "--port", "0")
    done = subprocess.run(
        [*PROGRAM, "serve", *flags, "--backend", backend],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**clean_environment(), FULL: "1"},
        check=False,
    )
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line.startswith("calotype: ")]
    assert line.startswith("calotype: the engines take some ")
    assert "Traceback" not in done.stderr

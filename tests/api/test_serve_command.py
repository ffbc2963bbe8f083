"""`calotype serve` starts its worker before all else, and has the files read that it opens."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from api import drawn, serving
from api.cli import main
from api.keys import KeyFile, Scope
from runtime.jobs.process import WorkerProcess
from tests.places import ENGINES, ROOT

# The server's imports take as long as the worker's: they begin with the worker's process.
HEAVY = {"numpy", "fastapi", "uvicorn", "jsonschema", "tokenizers", "runtime.package.manifest"}
LOADED_BEFORE_THE_WORKER = """
import sys
from api import cli
from runtime.jobs.process import WorkerProcess

def refuse(self):
    print(*sys.modules)
    raise KeyboardInterrupt

WorkerProcess.__init__ = refuse
sys.exit(cli.main(["serve"]))
"""


def test_files_are_read_ahead_before_the_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def read_ahead(paths: Sequence[Path]) -> None:
        done.extend(path.name for path in paths[:2])

    monkeypatch.setattr(drawn, "read_ahead", read_ahead)
    monkeypatch.setattr(serving, "serve", lambda *_, **__: done.append("served"))
    assert main(["serve", "--engines", str(ENGINES), "--backend", "onnxruntime-cpu"]) == 0
    assert done == ["denoiser.onnx", "denoiser.safetensors", "served"]


def test_the_workers_process_is_started_before_the_servers_imports() -> None:
    command = [sys.executable, "-c", LOADED_BEFORE_THE_WORKER]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    loaded = set(done.stdout.split())
    assert "api.settings" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    ("flags", "code"),
    [(["--port", "many"], 2), (["--model", "absent"], 1)],
    ids=["before the worker", "after it"],
)
def test_a_server_that_is_refused_leaves_no_worker_behind(
    flags: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[WorkerProcess] = []
    start = WorkerProcess.__init__

    def start_noted(self: WorkerProcess) -> None:
        start(self)
        started.append(self)

    monkeypatch.setattr(WorkerProcess, "__init__", start_noted)
    assert main(["serve", "--engines", str(ENGINES), *flags]) == code
    assert len(started) == (code == 1)
    for each in started:
        with pytest.raises(ProcessLookupError):
            os.kill(each.pid, 0)


def test_an_end_that_nobody_foresaw_is_one_record_of_the_log(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("of ours")

    monkeypatch.setattr(serving, "serve", fail)
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--engines", str(ENGINES), "--log-format", "json"])
    assert ended.value.code == 1
    [line] = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert (line["level"], line["process"]) == ("critical", "server")
    assert line["exception"].endswith("RuntimeError: of ours")


@pytest.mark.parametrize("flags", [["--host", "0.0.0.0"], ["--host", "::"], ["--keys"]])
def test_other_machines_are_served_with_keys_or_by_a_word(
    flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served: list[object] = []
    monkeypatch.setattr(serving, "serve", lambda *_, keys, **__: served.append(keys))
    command = ["serve", "--engines", str(ENGINES), "--data", str(tmp_path), *flags]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "make one with `calotype keys create NAME`, or say --no-keys" in said
    assert main([*command, "--no-keys"]) == 0
    KeyFile(tmp_path).create("painter", Scope.GENERATE)
    assert main(command) == 0
    assert (served[0], type(served[1])) == (None, KeyFile)


def test_on_loopback_nobody_needs_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[object] = []
    monkeypatch.setattr(serving, "serve", lambda *_, keys, **__: served.append(keys))
    KeyFile(tmp_path).create("painter", Scope.GENERATE)
    assert main(["serve", "--engines", str(ENGINES), "--data", str(tmp_path)]) == 0
    assert served == [None]

"""A worker's process before it has its options."""

import asyncio
import os
import select
import signal
import sys
from pathlib import Path

import pytest

from runtime.jobs.process import NotStarted, WorkerProcess

PATIENCE = 60


def test_a_process_is_gone_at_the_end_of_its_context() -> None:
    with WorkerProcess() as process:
        os.kill(process.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_process_whose_server_is_gone_ends_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    with WorkerProcess() as process:
        ending = os.pidfd_open(process.pid)
        process.connection.close()
        assert select.select([ending], [], [], PATIENCE)[0]
        os.close(ending)
        assert asyncio.run(process.kill()) == f"process {process.pid} exited with code 0"
    assert "Traceback" not in capfd.readouterr().err


def test_a_kill_tells_how_the_process_ended() -> None:
    process = WorkerProcess()
    assert asyncio.run(process.kill()) == f"process {process.pid} ended by SIGKILL"
    process.signal(signal.SIGTERM)  # nobody is there, which is no error
    process.connection.close()


def test_a_process_that_the_system_refuses_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(NotStarted, match=r"worker's process cannot be started: .*absent"):
        WorkerProcess()

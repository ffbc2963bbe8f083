"""Servers that draw nothing, and a worker without HTTP that draws for them."""

import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from api.cli import main
from tests.api.conftest import Starter
from tests.api.live import CALOTYPE, Options, clean_environment
from tests.nats_server import NatsServer


def test_two_servers_and_a_worker_draw_together(
    start: Starter, nats: NatsServer, tiny_package: Path, tmp_path: Path
) -> None:
    shared = ("--broker", nats.url, "--broker-stream", "together")
    command = [CALOTYPE, "worker", *shared, "--model", "tiny", "--engines", str(tiny_package)]
    with ExitStack() as stack:
        worker = stack.enter_context(
            subprocess.Popen(
                [*command, "--data", str(tmp_path / "data")],
                stdout=subprocess.PIPE,
                text=True,
                env={**clean_environment(), "OMP_NUM_THREADS": "1"},
            )
        )
        stack.callback(worker.kill)
        assert worker.stdout is not None
        assert worker.stdout.readline() == f"Drawing tiny for {nats.url}\n"
        # Ready, since the worker is.
        options = Options(tiny_package, tmp_path / "data", flags=(*shared, "--workers", "0"))
        one, other = start(options).api, start(options).api
        assert other.client.get("/api/info").json()["engine"]["backend"] == "onnxruntime-cpu"
        job_id = one.submit(steps=4)
        assert other.finish(job_id)["status"] == "completed"
        assert one.picture(one.job(job_id)) == other.picture(other.job(job_id))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["serve", "--workers", "0"], "--workers 0: nobody would draw; give --broker"),
        (["worker"], "give its addresses by --broker, such as nats://127.0.0.1:4222"),
        (["worker", "--broker", "nats://x", "--workers", "0"], "a worker that draws nothing"),
    ],
)
def test_what_could_draw_nothing_is_refused(
    command: list[str], words: str, tiny_package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--engines", str(tiny_package), "--model", "tiny"]
    assert main([*command, *flags]) == 1
    assert words in capsys.readouterr().err

"""A `nats-server` process with JetStream, in a folder of its own."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pytest

PROGRAM = shutil.which("nats-server") or "/usr/sbin/nats-server"


def installed() -> bool:
    """True where there is a `nats-server`."""
    return Path(PROGRAM).is_file()


class NatsServer:
    """One server. A context manager: it listens, and is gone at the end."""

    def __init__(self, folder: Path, flags: tuple[str, ...] = ()) -> None:
        """`flags` are given beside its folder and its port."""
        self._port = free_port()
        self.url = f"nats://127.0.0.1:{self._port}"
        self._command = [PROGRAM, "-js", "-a", "127.0.0.1", "-p", str(self._port)]
        self._command += ["-sd", str(folder), *flags]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop(signal.SIGKILL)

    def start(self) -> None:
        """Start the process on the folder as it is, and wait until it listens."""
        # A pipe that nobody reads would hold the process up.
        with tempfile.TemporaryFile("w+") as log:
            self.process = subprocess.Popen(self._command, stderr=log)
            while "Server is ready" not in (said := _whole(log)):
                assert self.process.poll() is None, said
                time.sleep(0.01)

    def stop(self, number: signal.Signals) -> None:
        """End the process."""
        self.process.send_signal(number)
        self.process.wait()


class NatsCluster:
    """Three servers that keep everything three times. A context manager, too."""

    def __init__(self, folder: Path) -> None:
        routes = [f"nats://127.0.0.1:{free_port()}" for _ in range(3)]
        self.servers = [
            NatsServer(
                folder / str(number),
                (
                    *("--name", f"n{number}", "--cluster_name", "three", "--cluster", route),
                    *("--routes", ",".join(routes)),
                ),
            )
            for number, route in enumerate(routes)
        ]
        self.url = ",".join(server.url for server in self.servers)

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        for server in self.servers:
            self._stack.enter_context(server)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def _whole(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One server with JetStream, for all tests: each takes a stream of its own."""
    if not installed():
        pytest.skip("nats-server is not installed: apt-get install nats-server")
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="session")
def nats_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    """A cluster of three, for all tests."""
    if not installed():
        pytest.skip("nats-server is not installed: apt-get install nats-server")
    with NatsCluster(tmp_path_factory.mktemp("nats_cluster")) as cluster:
        yield cluster

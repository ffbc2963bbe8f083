"""A `nats-server` process with JetStream, in a folder of its own."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

PROGRAM = shutil.which("nats-server") or "/usr/sbin/nats-server"


def installed() -> bool:
    """True where there is a `nats-server`."""
    return Path(PROGRAM).is_file()


class NatsServer:
    """One server. A context manager: it listens, and is gone at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"nats://127.0.0.1:{self._port}"

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
        command = [PROGRAM, "-js", "-a", "127.0.0.1", "-p", str(self._port)]
        self.process = subprocess.Popen(
            [*command, "-sd", str(self._folder)],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if "Server is ready" in line:
                return
        raise AssertionError("".join(lines))

    def stop(self, number: signal.Signals) -> None:
        """End the process."""
        self.process.send_signal(number)
        self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()


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

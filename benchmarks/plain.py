"""The plain server as a process, and a client of it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.server_process import ServerProcess, ServingError, free_port


@dataclass(frozen=True, slots=True)
class PlainOptions:
    """Options for starting a plain server."""

    source: Path
    """diffusers folder."""
    threads: int
    """Of PyTorch."""
    batch: int = 1
    """Most pictures of one call."""
    warm_size: int = 128
    """Pixels of a side of the picture that warms the server up."""


class PlainServer(ServerProcess):
    """`benchmarks.plain_server` in a process of its own."""

    def __init__(self, options: PlainOptions, log: Path) -> None:
        """Choose a free port; the process is started on entering the context."""
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.plain_server", str(options.source)]
        command += ["--port", str(port), "--threads", str(options.threads)]
        command += ["--batch", str(options.batch), "--warm-size", str(options.warm_size)]
        super().__init__(command, port, log)

    def picture(self, body: Mapping[str, Any]) -> bytes:
        """Draw a picture; its PNG. Raises ServingError when the request fails."""
        answer = self.client.post("/generate", json=dict(body))
        if answer.status_code != 200:
            raise ServingError(f"the plain server answered {answer.status_code}: {answer.text}")
        return answer.content

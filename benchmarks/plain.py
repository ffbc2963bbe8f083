"""The plain server as a process, and a client of it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.load import Seen
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

    def ask(self, body: Mapping[str, Any]) -> Seen:
        """Draw a picture; it comes with the answer, and there are no previews."""
        self.picture(body)
        return Seen(None)


def tried(
    first: PlainOptions,
    threads: Sequence[int],
    batches: Sequence[int],
    rate: Callable[[PlainOptions], float],
) -> dict[PlainOptions, float]:
    """Pictures a second, which `rate` measures, by the options of a plain server.

    Every number of threads is tried with the first batch, and the other batches with the best
    number of threads.
    """
    found = {}
    for each in threads:
        options = replace(first, threads=each, batch=batches[0])
        found[options] = rate(options)
    best = max(found, key=lambda options: found[options])
    for batch in batches[1:]:
        options = replace(best, batch=batch)
        found[options] = rate(options)
    return found

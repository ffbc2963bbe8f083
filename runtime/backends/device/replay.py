"""Work that is done over and over at the same addresses: a CUDA graph from the second time on."""

from collections.abc import Callable

from runtime.backends.device.cuda import Graph, Stream
from runtime.backends.device.shortfalls import Shortfalls
from runtime.errors import BackendError

ATTEMPTS = 3
"""What another thread does in a library may spoil a capture: so often in a row, and it is given up.
"""


class Replay:
    """One piece of work on one stream."""

    def __init__(
        self, stream: Stream, enqueue: Callable[[], None], what: str, shortfalls: Shortfalls
    ) -> None:
        """`enqueue` puts it on the stream; `what` it is called where it cannot be captured."""
        self._stream = stream
        self._enqueue = enqueue
        self._what = what
        self._shortfalls = shortfalls
        self._graph: Graph | None = None
        self._attempts = ATTEMPTS
        self._told = ""

    def run(self) -> None:
        """Enqueue it. Raises DeviceError.

        The first time it is run as it is, which settles what a library had put off, and captured
        behind that.
        """
        if self._graph is not None:
            self._graph.launch(self._stream)
            return
        self._enqueue()
        if self._attempts:
            self._capture()

    def forget(self) -> None:
        """Capture anew at the next run; nothing of it may be running."""
        if self._graph is not None:
            self._graph.destroy()
            self._graph = None

    def _capture(self) -> None:
        try:
            self._graph = self._stream.capture(self._enqueue)
        except BackendError as error:
            self._attempts -= 1
            if not self._told:
                self._told = f"{self._what} runs without a CUDA graph: {error}"
                self._shortfalls.add(self._told)
            return
        self._attempts = ATTEMPTS
        if self._told:
            self._shortfalls.withdraw(self._told)
            self._told = ""

"""The worker's end of the socket between the server and one worker; `server_link.py` has the
server's, and with it asyncio, which a worker need not import.

The link is a socket pair of which the worker inherits one end: no other process can connect, and
each side learns at once when the other has died.
"""

import socket
import threading

from runtime.wire.messages import HEADER, Configure, LinkError, Message, decode, encode, lengths
from runtime.wire.options import WorkerOptions

GONE = "the other side is gone"


class WorkerLink:
    """The worker's end, blocking. Any thread may send; one thread receives."""

    def __init__(self, connection: socket.socket) -> None:
        """Take the connected socket over."""
        self._socket = connection
        self._stream = connection.makefile("rb")
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Raises LinkError when the server is gone."""
        frame = encode(message)
        try:
            with self._sending:
                self._socket.sendall(frame)
        except OSError as error:
            raise LinkError(GONE) from error

    def receive(self) -> Message:
        """Wait for a message. Raises LinkError for a bad frame, or when the server is gone."""
        body, payload = lengths(self._read(HEADER.size))
        return decode(self._read(body), self._read(payload))

    def receive_options(self) -> WorkerOptions:
        """Wait for the options, which are the first message.

        Raises LinkError for any other message or when the server is gone, and pydantic's
        ValidationError.
        """
        first = self.receive()
        if not isinstance(first, Configure):
            raise LinkError(f"the first message is {type(first).__name__}, expected Configure")
        return WorkerOptions.from_json(first.options)

    def close(self) -> None:
        """End the connection."""
        self._stream.close()
        self._socket.close()

    def _read(self, size: int) -> bytes:
        try:
            content = self._stream.read(size)
        except OSError as error:
            raise LinkError(GONE) from error
        if len(content) < size:
            raise LinkError(GONE)
        return content

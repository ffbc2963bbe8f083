"""The socket between the server and one worker, from both ends.

The link is a socket pair of which the worker inherits one end: no other process can connect, and
each side learns at once when the other has died.
"""

import asyncio
import socket
import threading
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from typing import Self

from runtime.wire.messages import (
    HEADER,
    Configure,
    LinkError,
    Message,
    decode,
    encode,
    lengths,
)
from runtime.wire.options import WorkerOptions

GONE = "the other side is gone"


def socket_pair(options: WorkerOptions) -> tuple[socket.socket, socket.socket]:
    """The server's and the worker's end of a new connection, with the worker's options in it.

    The options are in the socket's buffer before there is a worker, so that sending them neither
    waits nor fails.
    """
    ours, theirs = socket.socketpair()
    ours.sendall(encode(Configure(options.to_json())))
    return ours, theirs


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


class ServerLink:
    """The server's end, on the event loop."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        """See `open`."""
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, connection: socket.socket) -> Self:
        """Take the connected socket over."""
        connection.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=connection))

    async def send(self, message: Message) -> None:
        """Raises LinkError when the worker is gone."""
        try:
            self._writer.write(encode(message))
            await self._writer.drain()
        except OSError as error:
            raise LinkError(GONE) from error

    async def receive(self) -> Message:
        """Wait for a message. Raises LinkError for a bad frame, or when the worker is gone."""
        try:
            body, payload = lengths(await self._reader.readexactly(HEADER.size))
            return decode(
                await self._reader.readexactly(body), await self._reader.readexactly(payload)
            )
        except (OSError, IncompleteReadError) as error:
            raise LinkError(GONE) from error

    def close(self) -> None:
        """End the connection."""
        self._writer.close()

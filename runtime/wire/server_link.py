"""The server's end of the socket between the server and one worker; `link.py` has the worker's."""

import asyncio
import socket
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from contextlib import suppress
from typing import Self

from runtime.wire.link import GONE
from runtime.wire.messages import HEADER, Configure, LinkError, Message, decode, encode, lengths
from runtime.wire.options import WorkerOptions


def send_options(connection: socket.socket, options: WorkerOptions) -> None:
    """Send a new worker its options, which its `receive_options` waits for. They fit into the
    socket's buffer, so that sending them does not wait.
    """
    # Whoever reads the link learns that the worker is gone.
    with suppress(OSError):
        connection.sendall(encode(Configure(options.to_json())))


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

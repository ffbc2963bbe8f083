"""HTTP over bare sockets, for a thousand clients in one process that must not be the bottleneck."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

EVENT = b"\ndata: "
RequestBody = Mapping[str, Any]


class Connection:
    """A connection to a server of this machine, kept open between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, path: str, body: RequestBody) -> tuple[int, dict[str, str], Any]:
        """Status, headers and parsed body of the answer to a POST of JSON."""
        content = json.dumps(body).encode()
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        status, headers = await self._head()
        answer = await self._reader.readexactly(int(headers["content-length"]))
        return status, headers, json.loads(answer)

    async def follow(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """The events of a stream, each one's data, until the stream or the connection ends.

        Raises ConnectionError for an answer that is no stream.
        """
        await self.begin(path)
        while line := await self._reader.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])

    async def count(self, path: str) -> AsyncIterator[int]:
        """Numbers of events, as they come: `follow` for a reader that has no time to parse them."""
        await self.begin(path)
        rest = b""
        while chunk := await self._reader.read(65536):
            rest += chunk
            yield rest.count(EVENT)
            rest = rest[1 - len(EVENT) :]

    async def begin(self, path: str) -> None:
        """Ask for a stream and read nothing of it but the head of the answer.

        Raises ConnectionError for an answer that is no stream.
        """
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        status, _ = await self._head()
        if status != 200:
            raise ConnectionError(f"GET {path}: {status}")

    async def _head(self) -> tuple[int, dict[str, str]]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        pairs = (line.partition(": ") for line in head[1:] if line)
        return int(head[0].split()[1]), {name.lower(): value for name, _, value in pairs}


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """A connection within the block. Raises OSError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()

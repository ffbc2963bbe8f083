"""A stream by the messages that a server and a client exchange over it."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from fastapi.sse import KEEPALIVE_COMMENT
from starlette.types import Message

from api.event_stream import EventStream

MOMENT = 1e-4


class Client:
    """The other end of a connection: it can go, and it can stop reading."""

    def __init__(self) -> None:
        self.bodies: asyncio.Queue[bytes] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.asked = False

    async def receive(self) -> Message:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.body":
            self.bodies.put_nowait(message["body"])


class Frames:
    """Frames that come when the test says so, and know that they were closed."""

    def __init__(self) -> None:
        self.coming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.closed = False

    async def __call__(self) -> AsyncGenerator[bytes]:
        try:
            while (frame := await self.coming.get()) is not None:
                yield frame
        finally:
            self.closed = True


def test_frames_are_sent_as_they_come_and_the_last_one_ends_the_answer() -> None:
    async def check() -> None:
        client, frames = Client(), Frames()
        answer = asyncio.create_task(EventStream(frames())({}, client.receive, client.send))
        for frame in (b"a", b"b"):
            frames.coming.put_nowait(frame)
            assert await client.bodies.get() == frame
        frames.coming.put_nowait(None)
        assert await client.bodies.get() == b""
        await answer

    asyncio.run(check())


def test_silence_is_filled_with_comments() -> None:
    async def check() -> None:
        client, frames = Client(), Frames()
        stream = EventStream(frames(), ping_seconds=MOMENT)
        answer = asyncio.create_task(stream({}, client.receive, client.send))
        assert [await client.bodies.get() for _ in range(3)] == [KEEPALIVE_COMMENT] * 3
        frames.coming.put_nowait(b"a")
        while await client.bodies.get() != b"a":
            pass
        client.gone.set()
        await answer

    asyncio.run(check())


@pytest.mark.parametrize("reads", [True, False], ids=["reading", "stalled"])
def test_a_client_that_goes_ends_the_frames(reads: bool) -> None:
    async def check() -> None:
        client, frames = Client(), Frames()
        answer = asyncio.create_task(EventStream(frames())({}, client.receive, client.send))
        frames.coming.put_nowait(b"a")
        await client.bodies.get()
        if not reads:
            client.reads.clear()
            frames.coming.put_nowait(b"b")
        client.gone.set()
        await answer
        assert frames.closed

    asyncio.run(check())


def test_an_error_of_the_frames_is_raised() -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"a"
        raise RuntimeError("a bug")

    async def check() -> None:
        client = Client()
        with pytest.raises(ExceptionGroup) as raised:
            await EventStream(broken())({}, client.receive, client.send)
        assert raised.group_contains(RuntimeError, match="a bug")

    asyncio.run(check())
